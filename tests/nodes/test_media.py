"""load_image and load_video: what comes out of good files, and what is said of bad ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from tests import clips
from tokenloom.nodes.media import load_image, load_video
from tokenloom.runtime.errors import MediaError, WiringError


@pytest.fixture
def colours() -> np.ndarray:
    """A picture in which every pixel differs: uint8 [20, 30, 3]."""
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def _one(path: Path) -> np.ndarray:
    frames = load_image(path=path)
    assert len(frames) == 1
    assert frames.time.tolist() == [0.0]
    return frames.pictures[0].numpy()


def test_rgb_picture_is_read_as_it_is(tmp_path: Path, colours: np.ndarray) -> None:
    """Lossless in, the same bytes out."""
    Pil.fromarray(colours).save(tmp_path / "a.png")
    assert (_one(tmp_path / "a.png") == colours).all()


def test_several_pictures_keep_order_and_size(tmp_path: Path) -> None:
    """A list of paths is one Frames value, each picture with its own size."""
    paths = []
    for i, size in enumerate([(10, 20), (30, 5)]):
        paths.append(tmp_path / f"{i}.png")
        Pil.new("RGB", size, (i, i, i)).save(paths[-1])
    frames = load_image(path=tuple(paths))
    assert frames.sizes == ((10, 20), (30, 5))
    assert [int(p[0, 0, 0]) for p in frames.pictures] == [0, 1]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (3, lambda a: np.rot90(a, 2)), (6, lambda a: np.rot90(a, 3)), (8, np.rot90)],
)
def test_exif_rotation_is_applied(
    orientation: int, upright: Callable[[np.ndarray], np.ndarray], tmp_path: Path, colours: np.ndarray
) -> None:
    """A photo taken sideways comes out upright."""
    exif = Pil.Exif()
    exif[0x0112] = orientation
    Pil.fromarray(colours).save(tmp_path / "a.png", exif=exif)
    assert (_one(tmp_path / "a.png") == upright(colours)).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_modes_follow_pillow(mode: str, tmp_path: Path, colours: np.ndarray) -> None:
    """Grey, alpha, palette, bilevel and CMYK come out as Pillow's convert("RGB") gives them."""
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Pil.fromarray(colours).convert(mode).save(path)
    assert (_one(path) == np.asarray(Pil.open(path).convert("RGB"))).all()


def test_transparent_colour_is_kept_not_blended(tmp_path: Path) -> None:
    """Alpha is dropped, as LLaVA's released code does: the hidden colour shows."""
    Pil.new("RGBA", (2, 2), (200, 10, 30, 0)).save(tmp_path / "a.png")
    assert _one(tmp_path / "a.png")[0, 0].tolist() == [200, 10, 30]


def test_palette_with_alpha_is_silent(tmp_path: Path, colours: np.ndarray) -> None:
    """A palette with one alpha per colour gives the palette's colours, and Pillow's warning does not show."""
    picture = Pil.fromarray(colours).quantize(16)
    picture.save(tmp_path / "a.png", transparency=bytes(range(16)))
    assert (_one(tmp_path / "a.png") == np.asarray(picture.convert("RGB"))).all()


def test_16_bit_grey_is_scaled(tmp_path: Path) -> None:
    """0..65535 becomes 0..255, rounded; Pillow alone would clip everything above 255 to white."""
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    Pil.fromarray(values).save(tmp_path / "a.png")
    assert _one(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    """load_image of a GIF is a picture, not a clip."""
    assert clips.number_of(_one(clips.write_gif(tmp_path / "a.gif"))) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1)])
def test_tiny_and_thin_pictures(size: tuple[int, int], tmp_path: Path) -> None:
    """One pixel is a picture."""
    Pil.new("RGB", size, (9, 8, 7)).save(tmp_path / "a.png")
    assert _one(tmp_path / "a.png").shape == (size[1], size[0], 3)


def _cut_off(path: Path) -> Path:
    Pil.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    return clips.truncated(path, path, 0.5)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _floats(path: Path) -> Path:
    Pil.fromarray(np.zeros((2, 2), np.float32)).save(path)
    return path


def _made(path: Path) -> Path:
    path.mkdir()
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (
        lambda d: d / "cat.jpg",
        "load_image: {path}: no such file; give the path of a picture",
    ),
    "misspelt": (
        lambda d: _written(d / "cat.jpg", b"x").with_name("cta.jpg"),
        "load_image: {path}: no such file; did you mean '{folder}/cat.jpg'?",
    ),
    "empty": (
        lambda d: _written(d / "cat.jpg", b""),
        "load_image: {path}: the file is empty (0 bytes); fetch or write it again",
    ),
    "text": (
        lambda d: _written(d / "cat.jpg", b"hello, no picture"),
        "load_image: {path}: not a picture that Pillow can read (it starts with b'hello, no pi'); "
        "wanted JPEG, PNG, WebP, BMP, GIF or TIFF; check the file",
    ),
    "cut_off": (
        lambda d: _cut_off(d / "cat.jpg"),
        "load_image: {path}: the picture is damaged (it ends too early); fetch or save it again",
    ),
    "folder": (
        lambda d: _made(d / "cats"),
        "load_image: {path}: a folder, wanted a picture file; a folder of frames is opened by load_video",
    ),
    "floats": (
        lambda d: _floats(d / "cat.tif"),
        "load_image: {path}: floating-point pixels, wanted 8 or 16 bits per channel; save it as 8 bit",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_picture_is_one_clear_message(name: str, tmp_path: Path) -> None:
    """What is no picture is named, with what it is and what to do."""
    make, message = BAD[name]
    path = make(tmp_path)
    with pytest.raises(MediaError) as caught:
        load_image(path=path)
    assert str(caught.value) == message.format(path=path, folder=tmp_path)


def test_bad_picture_is_refused_while_planning(tmp_path: Path) -> None:
    """The plan checks headers before any weight is read."""
    assert load_image.foresee is not None
    with pytest.raises(MediaError, match="no such file"):
        load_image.foresee(path=tmp_path / "cat.jpg")


def test_huge_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture beyond Pillow's limit is a clear error, not a full memory."""
    Pil.new("RGB", (50, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MediaError) as caught:
        load_image(path=tmp_path / "a.png")
    assert str(caught.value) == (
        f"load_image: {tmp_path}/a.png: the picture is too large (Image size (2500 pixels) exceeds limit of "
        "2000 pixels, could be decompression bomb DOS attack.); scale it down below 178956970 pixels"
    )


def test_empty_list_of_pictures() -> None:
    """No picture is no input."""
    with pytest.raises(MediaError) as caught:
        load_image(path=())
    assert str(caught.value) == "load_image.path: an empty list; give at least one picture"


def test_video_is_a_handle(tmp_path: Path) -> None:
    """Size, length, rate and the back end with its version; replaced bytes change the fingerprint."""
    path = clips.write_clip(tmp_path / "a.mp4", 30)
    video = load_video(path=path)
    assert (video.path, video.width, video.height, video.frames) == (str(path), 64, 48, 30)
    assert (video.fps, video.seconds, video.rotation) == (30.0, pytest.approx(1.0, abs=1e-4), 0)
    assert video.backend.startswith("decord 3.")
    assert load_video(path=path, backend="pyav").backend.startswith("pyav ")
    clips.write_clip(path, 31)
    assert load_video(path=path).fingerprint != video.fingerprint


def test_rate_of_a_folder_is_a_widget(tmp_path: Path) -> None:
    """Folders of frames tell no rate: 3 per second, unless given."""
    path = clips.write_folder(tmp_path / "frames", 6)
    assert (load_video(path=path).fps, load_video(path=path).seconds) == (3.0, 2.0)
    assert load_video(path=path, fps=12).seconds == 0.5


def test_bad_video_names_the_node(tmp_path: Path) -> None:
    """The reader's message, with the node that asked."""
    with pytest.raises(MediaError) as caught:
        load_video(path=clips.audio_only(tmp_path / "a.mp4"))
    assert str(caught.value) == (
        f"load_video: {tmp_path}/a.mp4: holds audio streams but no video; give a file with pictures"
    )


def test_bad_video_is_refused_while_planning(tmp_path: Path) -> None:
    """The plan looks at the header before any weight is read."""
    (tmp_path / "a.mp4").write_text("no video")
    assert load_video.foresee is not None
    with pytest.raises(MediaError, match=r"^load_video: .*a\.mp4: not a video that FFmpeg can open"):
        load_video.foresee(path=tmp_path / "a.mp4", backend="auto", fps=None)


def test_backend_is_one_of_three(tmp_path: Path) -> None:
    """An unknown back end is refused by name."""
    with pytest.raises(WiringError) as caught:
        load_video(path=tmp_path, backend="opencv")  # type: ignore[arg-type]
    assert str(caught.value) == "load_video.backend: 'opencv' is not one of 'auto', 'decord', 'pyav'"


def test_pictures_are_uint8_tensors(tmp_path: Path) -> None:
    """Frames hold torch tensors that may be written into by nobody else."""
    Pil.new("L", (4, 3), 7).save(tmp_path / "a.png")
    picture = load_image(path=tmp_path / "a.png").pictures[0]
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 4, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_still_picture_is_no_clip(tmp_path: Path, suffix: str) -> None:
    """A clip's whole budget for one picture is a mistake; a plan says so too."""
    path = tmp_path / f"a.{suffix}"
    Pil.new("RGB", (8, 8)).save(path)
    foresee = load_video.foresee
    assert foresee is not None
    for call in (lambda: load_video(path=path), lambda: foresee(path=path, backend="auto", fps=None)):
        with pytest.raises(MediaError) as error:
            call()
        assert str(error.value) == (
            f"load_video: {path}: is one still picture, wanted a clip; "
            "use load_image, or give a folder of pictures"
        )
