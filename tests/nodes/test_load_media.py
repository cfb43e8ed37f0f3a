"""load_media: pictures and clips by one node, told apart by what is in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from tests import clips
from tokenloom.nodes.load_media import load_media
from tokenloom.nodes.media import load_image, load_video
from tokenloom.nodes.sample import sample_frames
from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.foreseen import KnownFrames
from tokenloom.runtime.values import Frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, the same without a suffix, a clip, an animation, a still gif, an array, a folder, a text."""
    root = tmp_path_factory.mktemp("media")
    picture = Pil.fromarray(clips.numbered(5))
    picture.save(root / "a.png")
    picture.save(root / "bare", "PNG")
    picture.save(root / "still.gif")
    moments = [Pil.fromarray(clips.numbered(n)) for n in range(4)]
    moments[0].save(root / "moving.gif", save_all=True, append_images=moments[1:], duration=100)
    clips.write_clip(root / "a.mp4", 12)
    np.save(root / "a.npy", np.stack([clips.numbered(n) for n in range(6)]))
    clips.write_folder(root / "frames", 5)
    (root / "a.txt").write_text("hello")
    return root


def same(ours: Frames, theirs: Frames) -> bool:
    return (
        ours.clip == theirs.clip
        and torch.equal(ours.time, theirs.time)
        and all(torch.equal(a, b) for a, b in zip(ours.pictures, theirs.pictures, strict=True))
    )


@pytest.mark.parametrize("names", [("a.png",), ("bare",), ("still.gif",), ("a.png", "bare", "a.png")])
def test_pictures(folder: Path, names: tuple[str, ...]) -> None:
    """As load_image opens them: one, several, whatever their names."""
    paths = tuple(folder / name for name in names)
    assert same(load_media(path=paths), load_image(path=paths))
    assert same(load_media(path=paths[0]), load_image(path=paths[0]))


@pytest.mark.parametrize("name", ["a.mp4", "moving.gif", "a.npy", "frames"])
def test_clips(folder: Path, name: str) -> None:
    """As sample_frames takes their frames."""
    ours = load_media(path=folder / name, frames=3, rule="internvl")
    assert same(ours, sample_frames(load_video(path=folder / name), frames=3, rule="internvl"))
    assert ours.clip
    assert same(load_media(path=(folder / name,), frames=3, rule="internvl"), ours)


def test_every_setting_of_sampling_counts(folder: Path) -> None:
    """Rule, rate and bounds reach sample_frames."""
    wanted = sample_frames(load_video(path=folder / "a.mp4"), rule="fps", fps=10, start=0.1, end=0.3)
    assert same(load_media(path=folder / "a.mp4", rule="fps", fps=10, start=0.1, end=0.3), wanted)
    assert len(load_media(path=folder / "a.mp4", frames=99, short="fewer")) == 12


BAD = [
    ("nosuch.png", "load_media: {}/nosuch.png: no such file; give the path of a picture or a video"),
    (
        ("a.png", "a.mp4"),
        "load_media.path: {}/a.mp4 is a clip in a list of 2; give a clip alone, or pictures",
    ),
]


@pytest.mark.parametrize(("names", "message"), BAD)
def test_bad_input(folder: Path, names: str | tuple[str, ...], message: str) -> None:
    """One clear error, while planning too."""
    path = folder / names if isinstance(names, str) else tuple(folder / name for name in names)
    assert load_media.foresee is not None
    settings = {"frames": 4, "rule": "uniform", "fps": None, "start": None, "end": None, "short": "repeat"}
    for call in (lambda: load_media(path=path), lambda: load_media.foresee(path=path, **settings)):  # type: ignore[misc]
        with pytest.raises(MediaError) as error:
            call()
        assert str(error.value) == message.format(folder)


def test_neither_picture_nor_clip(folder: Path) -> None:
    """A text file is no video, which is what a file that is no picture must be."""
    with pytest.raises(MediaError, match=r"a\.txt"):
        load_media(path=folder / "a.txt")


def test_plans_know_what_will_come(folder: Path) -> None:
    """Sizes of pictures, frames of a clip; with a rate the clip decides."""
    assert load_media.foresee is not None
    settings = {"frames": 4, "rule": "uniform", "fps": None, "start": None, "end": None, "short": "repeat"}
    pictures = load_media.foresee(path=(folder / "a.png",), **settings)
    assert pictures == KnownFrames(count=1, clip=False, sizes=((64, 48),))
    assert load_media.foresee(path=folder / "a.mp4", **settings) == KnownFrames(count=4, clip=True)
    assert load_media.foresee(path=folder / "a.mp4", **{**settings, "rule": "fps", "fps": 1.0}) is None
    assert load_media.foresee(path=folder / "a.mp4", **{**settings, "short": "fewer"}) is None
