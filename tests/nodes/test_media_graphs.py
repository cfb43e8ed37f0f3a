"""The media nodes give the same eagerly, in a graph written in Python, and in its YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import clips
from tests.handles import CLIP_MEAN, CLIP_STD, image_handle
from tokenloom.nodes.media import load_image, load_video
from tokenloom.nodes.sample import sample_frames
from tokenloom.nodes.tile import pad_square, preprocess, resize_crop, tile_anyres
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import ImageFacts, Model
from tokenloom.runtime.run import run
from tokenloom.runtime.values import Frames
from tokenloom.runtime.yamlfile import load

FACTS = ImageFacts(size=16, mean=CLIP_MEAN, std=CLIP_STD, aspect="anyres", pinpoints=((32, 32), (16, 32)))


def _both(graph: Graph, **params: Any) -> list[Any]:
    """The output `out` of the graph, and of the graph that its YAML is."""
    again = load(Path("copy.yaml"), text=graph.to_yaml())
    assert again == graph
    return [run(g, cache=False, **params)["out"] for g in (graph, again)]


def _same(a: Frames, b: Frames) -> bool:
    return a.stack().equal(b.stack()) and a.time.equal(b.time)


def test_pictures(tmp_path: Path) -> None:
    """load_image with its path as a parameter."""
    path = clips.write_gif(tmp_path / "a.gif")
    with Graph() as g:
        g.output(out=load_image(path=g.param("image", Path)))
    assert all(_same(out, load_image(path=path)) for out in _both(g, image=path))


def test_clips(tmp_path: Path) -> None:
    """load_video, sample_frames with every kind of widget."""
    path = clips.write_clip(tmp_path / "a.mp4", 20)
    with Graph() as g:
        clip = load_video(path=g.param("video", Path), backend="pyav")
        g.output(out=sample_frames(clip, frames=5, rule="fps", fps=10, start=0.1, short="fewer"))
    eager = sample_frames(
        load_video(path=path, backend="pyav"), frames=5, rule="fps", fps=10, start=0.1, short="fewer"
    )
    assert all(_same(out, eager) for out in _both(g, video=path))


def test_a_cached_clip_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handle in the cache holds the whole path: it means the same in another working folder."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    clips.write_clip(tmp_path / "one" / "a.mp4", 20)
    with Graph() as g:
        g.output(out=sample_frames(load_video(path=g.param("video", Path)), frames=g.param("frames", int)))
    monkeypatch.chdir(tmp_path / "one")
    run(g, cache=Cache(tmp_path / "cache"), video="a.mp4", frames=2)
    monkeypatch.chdir(tmp_path / "two")
    assert len(run(g, cache=Cache(tmp_path / "cache"), video="../one/a.mp4", frames=3)["out"]) == 3
    Path("../one/a.mp4").rename("a.mp4")
    assert len(run(g, cache=Cache(tmp_path / "cache"), video="a.mp4", frames=4)["out"]) == 4


@pytest.mark.parametrize("node", [preprocess, pad_square, resize_crop, tile_anyres], ids=lambda n: n.name)
def test_tiles_of_two_inputs(node: Any, tmp_path: Path) -> None:
    """Two pictures wired to one variadic socket, in order."""
    one, two = clips.write_gif(tmp_path / "a.gif"), clips.write_folder(tmp_path / "f", 2) / "2.png"
    chat = image_handle(FACTS)
    with Graph() as g:
        known = g.param("chat", Model[ChatFormat])
        g.output(out=node(known, load_image(path=one), load_image(path=two)))
    eager = node(chat, load_image(path=one), load_image(path=two))
    out = run(g, cache=False, chat=chat)["out"]
    assert out.pixels.equal(eager.pixels)
    assert (out.layout, out.sizes, out.seconds) == (eager.layout, eager.sizes, eager.seconds)


def test_bad_file_stops_the_plan_and_names_the_node(tmp_path: Path) -> None:
    """A missing clip is an error of the plan, at the node that wants it."""
    with Graph() as g:
        g.output(out=sample_frames(load_video(path=tmp_path / "no.mp4")))
    with pytest.raises(MediaError) as caught:
        run(g, cache=False)
    assert f"load_video: {tmp_path}/no.mp4: no such file; give the path of a video" in str(caught.value)
