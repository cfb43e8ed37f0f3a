"""Every back end: the frame that was asked for is the frame that comes, at its true time."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

from tests import clips
from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.video import PartialDecode, open_source, probe

Maker = Callable[[Path], Path]
VFR = [
    0,
    30,
    60,
    190,
    200,
    240,
    400,
    900,
    910,
    1000,
    1500,
    1520,
    1600,
    2000,
    2500,
    2510,
    2600,
    3000,
    3030,
]

MAKERS: dict[str, Maker] = {
    "b_frames": lambda d: clips.write_clip(d / "b.mp4"),
    "one_keyframe": lambda d: clips.write_clip(d / "long.mp4", 90, gop=250),
    "no_b_frames": lambda d: clips.write_clip(d / "p.mp4", b_frames=0, gop=5),
    "variable_rate": lambda d: clips.write_clip(d / "vfr.mp4", len(VFR), milliseconds=VFR),
    "odd_size_444": lambda d: clips.write_clip(d / "odd.mp4", size=(75, 53), pix_fmt="yuv444p"),
    "narrow": lambda d: clips.write_clip(d / "narrow.mp4", size=(48, 48)),
    "one_frame": lambda d: clips.write_clip(d / "one.mp4", 1),
    "matroska": lambda d: clips.write_clip(d / "m.mkv"),
    "webm_vp9": lambda d: clips.write_clip(d / "v.webm", 16, codec="libvpx-vp9", b_frames=0),
    "avi_mpeg4": lambda d: clips.write_clip(d / "a.avi", codec="mpeg4", b_frames=0),
    "mpeg_ts": lambda d: clips.write_clip(d / "t.ts"),
    "mpeg_ts_one_keyframe": lambda d: clips.write_clip(d / "t1.ts", 90, gop=250),
    "rotated_90": lambda d: clips.write_clip(d / "r90.mp4", size=(48, 64), rotation=90),
    "rotated_180": lambda d: clips.write_clip(d / "r180.mp4", rotation=180),
    "rotated_270": lambda d: clips.write_clip(d / "r270.mp4", size=(48, 64), rotation=270),
    "gif": lambda d: clips.write_gif(d / "g.gif", 6),
    "folder": lambda d: clips.write_folder(d / "frames", 12),
}
COUNT = {"one_keyframe": 90, "variable_rate": 19, "one_frame": 1, "webm_vp9": 16, "gif": 6, "folder": 12}
COUNT["mpeg_ts_one_keyframe"] = 90
DECORD = (
    "b_frames",
    "one_keyframe",
    "variable_rate",
    "odd_size_444",
    "matroska",
    "rotated_90",
    "rotated_270",
)


@pytest.mark.parametrize("name", MAKERS)
def test_every_frame_is_the_one_asked_for(name: str, tmp_path: Path) -> None:
    """All frames in random order, with repeats, and one by one: each shows its own number."""
    count = COUNT.get(name, 40)
    with open_source(MAKERS[name](tmp_path)) as source:
        assert len(source) == count
        shuffled = [int(i) for i in np.random.default_rng(0).permutation(count)] + [0, count - 1]
        assert clips.numbers_of(source.get(shuffled)) == shuffled
        for i in (count - 1, 0, count // 2):
            assert clips.numbers_of(source.get([i])) == [i]


@pytest.mark.parametrize("name", [n for n in MAKERS if n not in ("gif", "folder")])
def test_pyav_random_access_equals_reading_through(name: str, tmp_path: Path) -> None:
    """Seeking gives the very pixels that one pass from the start gives."""
    path = MAKERS[name](tmp_path)
    with open_source(path, backend="pyav") as source:
        through = source.get(range(len(source)))
    with open_source(path, backend="pyav") as source:
        for i in range(len(source) - 1, -1, -3):
            assert (source.get([i])[0] == through[i]).all()


@pytest.mark.parametrize("name", DECORD)
def test_decord_and_pyav_agree(name: str, tmp_path: Path) -> None:
    """Where decord is right, both give the same size, the same frames and the same times."""
    path = MAKERS[name](tmp_path)
    with open_source(path) as first, open_source(path, backend="pyav") as second:
        assert first.backend.startswith("decord ")
        assert second.backend.startswith("pyav ")
        assert (first.width, first.height, first.rotation) == (second.width, second.height, second.rotation)
        np.testing.assert_allclose(first.pts, second.pts, atol=1e-4)
        everything = range(len(first))
        apart = first.get(everything).astype(int) - second.get(everything)
        assert np.abs(apart).mean() < 1.0


def test_times_of_a_variable_rate_are_true(tmp_path: Path) -> None:
    """Times are those written, not index / fps."""
    with open_source(MAKERS["variable_rate"](tmp_path)) as source:
        np.testing.assert_allclose(source.pts * 1000, VFR, atol=0.5)


def test_edit_list_goes_to_pyav(tmp_path: Path) -> None:
    """Frames that an edit list hides are not counted; decord would count them."""
    path = clips.cut_without_decoding(clips.write_clip(tmp_path / "a.mp4"), tmp_path / "cut.mp4", 0.6)
    assert probe(path) == "an edit list hides frames"
    with open_source(path) as source:
        assert source.backend.startswith("pyav ")
        assert clips.numbers_of(source.get(range(len(source)))) == list(range(18, 40))
        assert source.pts[0] == 0
    with open_source(path, backend="decord") as source:
        assert len(source) == 28  # it counts the six hidden frames, and so runs out of real ones


def test_mpeg_ts_goes_to_pyav(tmp_path: Path) -> None:
    """A format without an index is not read by decord."""
    assert probe(MAKERS["mpeg_ts"](tmp_path)) == "mpegts has no index"


def test_ordinary_file_goes_to_decord(tmp_path: Path) -> None:
    """Nothing speaks against decord in an ordinary MP4."""
    path = MAKERS["b_frames"](tmp_path)
    assert probe(path) == ""
    with open_source(path) as source:
        assert re.fullmatch(r"decord \d+\.\d+\.\d+", source.backend)
        assert (source.fps, source.rotation, source.width, source.height) == (30.0, 0, 64, 48)
        assert source.seconds == pytest.approx(40 / 30)


def test_rotation_is_told_and_applied(tmp_path: Path) -> None:
    """A clip marked as turned by 90 degrees is shown with its sides swapped."""
    for backend in ("decord", "pyav"):
        with open_source(MAKERS["rotated_90"](tmp_path), backend=backend) as source:
            assert (source.rotation, source.width, source.height) == (90, 64, 48)
            assert source.get([3]).shape == (1, 48, 64, 3)


def test_cut_off_file_says_what_is_missing(tmp_path: Path) -> None:
    """A cut-off MP4 opens with PyAV; a frame that is lost is an error that holds what could be read."""
    whole = clips.write_clip(tmp_path / "a.mp4", movflags="faststart")
    path = clips.truncated(whole, tmp_path / "cut.mp4", 0.7)
    assert probe(path) == "the file is cut off"
    with open_source(path) as source:
        last = len(source) - 1
        assert last < 39
        with pytest.raises(PartialDecode) as caught:
            source.get([2, last])
    assert clips.numbers_of(list(caught.value.got.values())) == [2]
    assert str(caught.value) == (
        f"{path}: 1 of 2 wanted frames cannot be decoded (the first is frame {last}), the file is damaged or "
        "cut off; mend the file, or set damaged: clamp to repeat the last frame that can be read"
    )


def test_gif_has_the_times_of_its_frames(tmp_path: Path) -> None:
    """An animation's frames last as long as it says."""
    with open_source(clips.write_gif(tmp_path / "g.gif", 4, 250)) as source:
        assert source.pts.tolist() == [0.0, 0.25, 0.5, 0.75]
        assert source.fps == 4.0


def test_array_is_a_clip(tmp_path: Path) -> None:
    """A .npy of uint8 [N, H, W, 3] is read with the rate that was given."""
    np.save(tmp_path / "a.npy", np.stack([clips.numbered(i) for i in range(5)]))
    with open_source(tmp_path / "a.npy", fps=2.0) as source:
        assert clips.numbers_of(source.get([4, 1])) == [4, 1]
        assert (source.fps, source.pts.tolist()) == (2.0, [0.0, 0.5, 1.0, 1.5, 2.0])


def test_index_outside_the_clip(tmp_path: Path) -> None:
    """No reader wraps around or clamps by itself."""
    path = MAKERS["b_frames"](tmp_path)
    for backend in ("decord", "pyav"):
        with open_source(path, backend=backend) as source:
            for i in (40, -1):
                with pytest.raises(IndexError, match=re.escape(f"{path}: frame {i} was asked for")):
                    source.get([i])


def _text(path: Path) -> Path:
    path.write_text("hello, I am no video")
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def _unequal(path: Path) -> Path:
    clips.write_folder(path, 2)
    Pil.new("RGB", (10, 20)).save(path / "2.png")
    return path


def _array(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


BAD: dict[str, tuple[Maker, str]] = {
    "missing": (
        lambda d: d / "no.mp4",
        "{path}: no such file; give the path of a video",
    ),
    "misspelt": (
        lambda d: _text(d / "clip.mp4").with_name("clib.mp4"),
        "{path}: no such file; did you mean '{folder}/clip.mp4'?",
    ),
    "empty": (
        lambda d: _empty(d / "a.mp4"),
        "{path}: the file is empty (0 bytes); fetch or write it again",
    ),
    "text": (
        lambda d: _text(d / "a.mp4"),
        "{path}: not a video that FFmpeg can open (Invalid data found when processing input; it starts with "
        "b'hello, I am '); wanted MP4, MKV, WebM, AVI, MOV or MPEG-TS; check the file, or fetch it again",
    ),
    "no_index": (
        lambda d: clips.truncated(clips.write_clip(d / "a.mp4"), d / "b.mp4", 0.7),
        "{path}: not a video that FFmpeg can open (Invalid data found when processing input; it starts with "
        "b'\\x00\\x00\\x00 ftypisom'); wanted MP4, MKV, WebM, AVI, MOV or MPEG-TS; check the file, or "
        "fetch it again",
    ),
    "audio_only": (
        lambda d: clips.audio_only(d / "a.mp4"),
        "{path}: holds audio streams but no video; give a file with pictures",
    ),
    "folder": (
        lambda d: _empty_folder(d / "frames"),
        "{path}: the folder holds no pictures; put frames (.jpg, .jpeg, .png, .webp, ...) into it",
    ),
    "array_type": (
        lambda d: _array(d / "a.npy", np.zeros((2, 4, 4, 3), np.float32)),
        "{path}: the array is float32 [2, 4, 4, 3], wanted uint8 [frames, height, width, 3]; convert it "
        "before saving",
    ),
    "pickled_array": (
        lambda d: _array(d / "a.npy", np.array([{}], dtype=object)),
        "{path}: not an array of numbers that NumPy can map; write uint8 frames with numpy.save",
    ),
}


@pytest.mark.parametrize("backend", ["auto", "decord", "pyav"])
@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_one_clear_message(name: str, backend: str, tmp_path: Path) -> None:
    """What cannot be read is named, with what it is and what to do, by every back end alike."""
    make, message = BAD[name]
    path = make(tmp_path)
    with pytest.raises(MediaError) as caught:
        open_source(path, backend=backend)
    assert str(caught.value) == message.format(path=path, folder=tmp_path)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".gif"])
def test_damage_ends_in_frames_or_in_one_message(suffix: str, seed: int, tmp_path: Path) -> None:
    """Whatever bytes are broken, every back end gives frames or a MediaError, never another exception."""
    path = tmp_path / f"a{suffix}"
    data = bytearray((clips.write_gif(path) if suffix == ".gif" else clips.write_clip(path, 20)).read_bytes())
    g = np.random.default_rng(seed)
    for at in g.integers(0, len(data), 8):
        data[at] = int(g.integers(0, 256))
    path.write_bytes(data[: int(g.integers(10, len(data)))] if seed % 2 else data)
    for backend in ("auto", "decord", "pyav"):
        with suppress(MediaError), open_source(path, backend=backend) as source:
            assert len(source.get([0, len(source) - 1])) == 2


def test_pages_of_unequal_size(tmp_path: Path) -> None:
    """A TIFF whose pages differ in size is no clip."""
    path = tmp_path / "a.tif"
    Pil.new("RGB", (8, 6)).save(path, save_all=True, append_images=[Pil.new("RGB", (6, 8))])
    with pytest.raises(MediaError) as caught:
        open_source(path)
    assert str(caught.value) == f"{path}: its pages differ in size; frames of one clip must share one size"


def test_frames_of_unequal_size(tmp_path: Path) -> None:
    """A folder whose pictures differ in size is no clip."""
    path = _unequal(tmp_path / "frames")
    with open_source(path) as source, pytest.raises(MediaError) as caught:
        source.get([0, 1])
    assert str(caught.value) == (
        f"{path}/2.png: is 10x20, the first frame 64x48; frames of one clip must share one size"
    )
