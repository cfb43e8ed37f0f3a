"""Nodes read media here or through a pool, with the same values and the same messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

import tokenloom
from tests import clips
from tests.runtime.media.broken import Signal
from tests.same import same
from tokenloom.nodes import load_image, load_media, load_video, sample_frames
from tokenloom.runtime.errors import DecoderError, MediaError
from tokenloom.runtime.media import DecodePool
from tokenloom.runtime.media import requests as asked
from tokenloom.runtime.media.front import IsolatedSource, decoder, isolated, open_source, told_timeout

GRAPH = """
tokenloom: 1
params: {clip: {type: path}}
nodes:
  opened: {node: load_video, path: $clip}
  frames: {node: sample_frames, video: $opened, frames: 4}
outputs: {frames: $frames}
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1) as pool:
        yield pool


def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENLOOM_DECODE", raising=False)
    monkeypatch.delenv("TOKENLOOM_DECODE_TIMEOUT", raising=False)


def both(pool: DecodePool, read: Callable[[], object]) -> list[object]:
    """What `read` gives or says without and with workers."""
    found: list[object] = []
    for inside in (False, True):
        try:
            if inside:
                with isolated(pool):
                    found.append(read())
            else:
                found.append(read())
        except MediaError as error:
            found.append((type(error), str(error)))
    return found


MADE: dict[str, Callable[[Path], Path]] = {
    "decord": lambda d: clips.write_clip(d / "a.mp4"),
    "pyav": lambda d: clips.write_clip(d / "t.ts"),
    "cut off": lambda d: clips.truncated(
        clips.write_clip(d / "w.mp4", 40, movflags="faststart"), d / "c.mp4", 0.7
    ),
    "rotated": lambda d: clips.write_clip(d / "r.mp4", size=(48, 64), rotation=90),
    "animation": lambda d: clips.write_gif(d / "g.gif"),
    "folder": lambda d: clips.write_folder(d / "frames"),
    "picture": lambda d: clips.write_folder(d / "frames", 1) / "1.png",
}


@pytest.mark.parametrize("kind", MADE)
def test_a_node_gives_the_same(kind: str, pool: DecodePool, tmp_path: Path) -> None:
    """Pixels and times of pictures and of clips by every back end; or the same error, word by word."""
    path = MADE[kind](tmp_path)
    here, there = both(pool, lambda: load_media(path=path, frames=5))
    assert same(here, there)


def test_what_is_known_of_a_damaged_clip_is_the_same(pool: DecodePool, tmp_path: Path) -> None:
    """`damaged: clamp` repeats the frames that came over with the error."""
    path = MADE["cut off"](tmp_path)
    here, there = both(pool, lambda: sample_frames(load_video(path=path), frames=8, damaged="clamp"))
    assert same(here, there)


@pytest.mark.parametrize("name", ["none.mp4", "empty.mp4", "text.mp4", "sound.mp4", "text.png", "cut.png"])
def test_messages_are_the_same(name: str, pool: DecodePool, tmp_path: Path) -> None:
    """Of every node, whoever found the mistake."""
    path = tmp_path / name
    if name == "sound.mp4":
        clips.audio_only(path)
    elif name == "cut.png":
        Pil.effect_noise((64, 64), 50).save(path)
        path.write_bytes(path.read_bytes()[:900])
    elif name != "none.mp4":
        path.write_bytes(b"" if name == "empty.mp4" else b"no media at all")
    for load in (load_media, load_image if name.endswith("png") else load_video):
        here, there = both(pool, lambda load=load: load(path=path))  # type: ignore[misc]
        assert isinstance(here, tuple), here
        assert here == there
        assert re.match(rf"(load_media|load_video|load_image): {re.escape(str(path))}: ", here[1])


def test_a_run_reads_through_the_pool_it_was_begun_with(
    pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned and run: no decoder is opened in this process."""
    unset(monkeypatch)
    clip = clips.write_clip(tmp_path / "a.mp4")
    (tmp_path / "g.yaml").write_text(GRAPH)
    plain = tokenloom.run(tmp_path / "g.yaml", clip=clip, cache=False)
    monkeypatch.setattr("tokenloom.runtime.video.open_source", None)
    monkeypatch.setattr("tokenloom.runtime.video.choose.glance", None)
    with isolated(pool):
        got = tokenloom.run(tmp_path / "g.yaml", clip=clip, cache=False)
    assert same(got["frames"], plain["frames"])
    assert decoder() is None


def test_a_run_names_the_node_whose_decoder_crashed(
    pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typed error, with the node, its place in the file, and what it was about to read."""
    clip = clips.write_clip(tmp_path / "a.mp4")
    (tmp_path / "g.yaml").write_text(GRAPH)
    monkeypatch.setattr("tokenloom.runtime.media.front.OpenClip", lambda *_: Signal())
    with isolated(pool), pytest.raises(DecoderError) as caught:
        tokenloom.run(tmp_path / "g.yaml", clip=clip, cache=False)
    assert str(caught.value) == (
        f"load_video: {clip}: its decoder crashed with SIGSEGV (signal 11) (it read 16 frames); convert the "
        "file, or leave it out"
    )
    assert (caught.value.path, caught.value.signal) == (str(clip), 11)
    assert caught.value.__notes__[0].startswith("in node opened (load_video)")


def test_a_source_in_a_worker_is_a_frame_source(pool: DecodePool, tmp_path: Path) -> None:
    """Indices are checked, frames may be written into given memory, closing is harmless."""
    clip = clips.write_clip(tmp_path / "a.mp4")
    with isolated(pool), open_source(clip) as source:
        assert isinstance(source, IsolatedSource)
        assert len(source) == 40
        with pytest.raises(
            IndexError, match=re.escape(f"{clip}: frame 40 was asked for, the clip has 0..39")
        ):
            source.get([40])
        out = np.empty((2, 48, 64, 3), np.uint8)
        assert source.get([3, 5], out) is out
        assert clips.numbers_of(out) == [3, 5]


def test_by_default_media_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pool, no process."""
    unset(monkeypatch)
    assert decoder() is None


def test_the_environment_asks_for_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One pool for all of this process, with the timeout that is told."""
    unset(monkeypatch)
    monkeypatch.setenv("TOKENLOOM_DECODE", "process")
    monkeypatch.setenv("TOKENLOOM_DECODE_TIMEOUT", "7.5")
    pool = decoder()
    assert pool is not None
    assert pool is decoder()
    assert pool.timeout == 7.5
    clips.write_folder(tmp_path / "f", 1)
    assert clips.number_of(load_image(path=tmp_path / "f" / "1.png").pictures[0].numpy()) == 0
    assert len(pool.pids()) == 1
    pool.close()
    monkeypatch.setenv("TOKENLOOM_DECODE_TIMEOUT", "8")  # nobody else gets the closed one
    assert decoder() is not pool


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TOKENLOOM_DECODE", "fork", "wanted inline or process; set one of them, or unset it"),
        ("TOKENLOOM_DECODE_TIMEOUT", "1m", "wanted seconds, such as 60; set it so, or unset it"),
        ("TOKENLOOM_DECODE_TIMEOUT", "-1", "wanted seconds, such as 60; set it so, or unset it"),
    ],
)  # fmt: skip
def test_a_wrong_environment_is_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was wanted."""
    unset(monkeypatch)
    monkeypatch.setenv(name, value)
    with pytest.raises(MediaError, match=f"^{re.escape(f'{name}={value}: {message}')}$"):
        decoder() if name == "TOKENLOOM_DECODE" else told_timeout()


def test_every_request_can_be_sent() -> None:
    """Fields of requests are what JSON gives back."""
    import json

    for one in (asked.OpenClip("pyav", 2.0), asked.ReadFrames((1, 2)), asked.PictureCount()):
        packed = json.loads(json.dumps(asked.packed(one)))
        assert packed["name"] == type(one).__name__
