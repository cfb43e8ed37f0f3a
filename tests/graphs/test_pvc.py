"""The bundled graphs of InternVL2 and PVC: pictures, several pictures and clips through one graph each."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from safetensors.torch import load_file, save_file

from tokenloom.nodes import encode_pvc, load_model, repeat_frames
from tokenloom.runtime.errors import CheckpointError, MediaError, MediaNotice, WiringError
from tokenloom.runtime.models.pvc_stream import PvcStream
from tokenloom.runtime.result import Result
from tokenloom.runtime.values import Tile, Tiles, VisualTokens

from .. import clips
from ..checkpoints import RANDOM
from ..exact import run

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PICTURE, CLIP = EXAMPLES / "media" / "shapes.png", EXAMPLES / "media" / "shapes.mp4"


def ran(graph: str, media: Path | tuple[Path, ...], **params: Any) -> Result:
    return run(graph, media=media, cache=False, **{"max_new_tokens": 1, **params})


def tokens_of(result: Result) -> VisualTokens:
    return cast("VisualTokens", result["tokens"])


def per_tile(tokens: VisualTokens) -> list[int]:
    return tokens.home.bincount().tolist()


@pytest.mark.parametrize(("max_num", "tiles"), [(1, 1), (4, 5)])
def test_a_picture(max_num: int, tiles: int) -> None:
    """InternVL2: 256 tokens a tile; PVC: 64 of each of its four copies, which is as many."""
    plain, pvc = (tokens_of(ran(graph, PICTURE, max_num=max_num)) for graph in ("internvl2", "pvc"))
    assert per_tile(plain) == [256] * tiles
    assert per_tile(pvc) == [64] * 4 * tiles
    assert [t.sequence for t in pvc.source.tiles] == [k for k in range(tiles) for _ in range(4)]
    assert [t.time for t in pvc.source.tiles] == [0, 1, 2, 3] * tiles


def test_several_pictures_are_numbered_in_the_prompt() -> None:
    """Each in a slot of its own, in order, with its own tiles."""
    both = tokens_of(ran("pvc", (PICTURE, PICTURE), max_num=2))
    one = tokens_of(ran("pvc", PICTURE, max_num=2))
    assert both.frame.bincount().tolist() == [len(one)] * 2
    for part in both.features.split(len(one)):  # sequences of their own; sums round as threads share them
        torch.testing.assert_close(part, one.features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("graph", "each"), [("internvl2", 256), ("pvc", 64)])
def test_a_clip(graph: str, each: int) -> None:
    """One tile a frame; PVC: a quarter of InternVL2's tokens, one sequence of all frames."""
    tokens = tokens_of(ran(graph, CLIP, count=6))
    assert tokens.frame.bincount().tolist() == [each] * 6
    if graph == "pvc":
        assert [(t.sequence, t.time) for t in tokens.source.tiles] == [(0, i) for i in range(6)]


def test_a_picture_as_often_as_asked() -> None:
    """image_repeat_time is PVC's own name for it; one copy is a clip of one frame."""
    once = tokens_of(ran("pvc", PICTURE, max_num=1, image_repeat_time=1))
    assert per_tile(once) == [64]
    assert per_tile(tokens_of(ran("pvc", CLIP, count=3, video_repeat_time=2))) == [64] * 6


def test_pictures_as_the_frames_of_a_video() -> None:
    """data_flag says so where the files do not: every picture is shown once, in one sequence."""
    tokens = tokens_of(ran("pvc", (PICTURE, PICTURE), max_num=1, data_flag="video"))
    assert [(t.sequence, t.time) for t in tokens.source.tiles] == [(0, 0), (0, 1)]


def test_single_means_one_picture() -> None:
    """More of them are refused."""
    with pytest.raises(
        MediaError, match=r"^repeat_frames\.data_flag: single, but 2 pictures came; set multi"
    ):
        ran("pvc", (PICTURE, PICTURE), max_num=1, data_flag="single")


def test_earlier_frames_do_not_know_of_later_ones(tmp_path: Path) -> None:
    """Two clips that part after the third frame: the same tokens up to there, others after."""
    first = np.stack([clips.numbered(n) for n in (1, 2, 3, 4, 5)])
    other = np.stack([clips.numbered(n) for n in (1, 2, 3, 200, 99)])
    features = []
    for name, pixels in (("a", first), ("b", other)):
        np.save(tmp_path / f"{name}.npy", pixels)
        result = ran("pvc", tmp_path / f"{name}.npy", count=4)  # takes frames 0, 1, 2, 3
        features.append(tokens_of(result).features)
    torch.testing.assert_close(features[0][:192], features[1][:192])
    assert not torch.allclose(features[0][192:], features[1][192:], atol=1e-3)


def test_more_frames_than_the_clip_has(tmp_path: Path) -> None:
    """Repeated as released, and said."""
    clip = clips.write_clip(tmp_path / "a.mp4", 3)
    with pytest.warns(
        MediaNotice, match=r"^sample_frames: 5 frames of a\.mp4, the clip has 3; some are repeated"
    ):
        tokens = tokens_of(ran("pvc", clip, count=5))
    assert len(tokens) == 5 * 64


def test_bounds_beyond_the_clip(tmp_path: Path) -> None:
    """One error, before any model is loaded; the released code crashes in its decoder."""
    clip = clips.write_clip(tmp_path / "a.mp4", 30, rate=10)
    file = tmp_path / "late.yaml"
    file.write_text("tokenloom: 1\nextends: pvc\nnodes:\n  frames: {start: 7.5, end: 9.0}\n")
    with pytest.raises(MediaError) as error:
        ran(str(file), clip, count=4)
    assert str(error.value) == (
        "sample_frames: start 7.5 s is after the clip's end (3.000 s); choose an earlier one"
    )


def test_pictures_of_several_shapes_are_no_clip(tmp_path: Path) -> None:
    """Frames of a video are cut alike; as pictures of their own they may differ."""
    for name, size in (("wide", (256, 128)), ("tall", (128, 256))):
        Pil.new("RGB", size).save(tmp_path / f"{name}.png")
    both = (tmp_path / "wide.png", tmp_path / "tall.png")
    with pytest.raises(MediaError) as error:
        ran("pvc", both, max_num=2, data_flag="video")
    assert str(error.value) == (
        "repeat_frames.tiles: frame 1 of a clip has 3 tiles in 2 rows, frame 0 has them in 1 row; cut all "
        "frames alike (max_num: 1), or set cells: together"
    )
    assert len(tokens_of(ran("pvc", both, max_num=2))) == 6 * 4 * 64


def test_tiles_of_another_size_than_the_towers() -> None:
    """Said with both sizes."""
    model = load_model(checkpoint="tiny-random-pvc")
    tiles = Tiles(torch.zeros(1, 3, 64, 64), (Tile(frame=0, box=(0, 0, 9, 9)),), ((9, 9),), (0.0,))
    with pytest.raises(MediaError, match=r"64x64"):
        encode_pvc(model.vision, repeat_frames(tiles))


def test_streaming_needs_the_length_for_times_that_depend_on_it() -> None:
    """Fractions do; `index` does not."""
    vision = load_model(checkpoint="tiny-random-pvc").vision
    with pytest.raises(WiringError) as error:
        PvcStream(vision)
    assert str(error.value) == (
        "PvcStream.time: fraction needs to know how many frames the clip has, and they are still arriving; "
        "set time: index, or say the length"
    )
    PvcStream(vision, time="index")
    PvcStream(vision, length=4)


def renamed(folder: Path) -> Path:
    """tiny-random-pvc with other names for its temporal attention than those that we propose."""
    shutil.copytree(RANDOM / "tiny-random-pvc", folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {n.replace("temporal_attn", "mixer"): t for n, t in tensors.items()}, folder / "model.safetensors"
    )
    return folder


def test_names_that_nobody_knows_are_an_edit_of_a_data_file(tmp_path: Path) -> None:
    """Refused by name, with the way out; with a pvc.yaml that tells of them the answer is the same."""
    folder = renamed(tmp_path / "theirs")
    with pytest.raises(CheckpointError) as error:
        ran("pvc", PICTURE, max_num=1, checkpoint=str(folder))
    told = str(error.value)
    assert "vision_model.encoder.layers.{2..3}.mixer.qkv.weight [36, 12]" in told
    assert "say in a pvc.yaml beside config.json what they are called" in " ".join(told.split())
    names = (
        (ROOT / "runtime" / "models" / "pvc.yaml")
        .read_text()
        .replace("}.temporal_attn.qkv\n", "}.mixer.qkv\n")
    )
    (folder / "pvc.yaml").write_text(names.replace("}.temporal_attn.proj\n", "}.mixer.proj\n"))
    ours = ran("pvc", PICTURE, max_num=1, max_new_tokens=8)
    theirs = ran("pvc", PICTURE, max_num=1, max_new_tokens=8, checkpoint=str(folder))
    assert ours["answer"] == theirs["answer"]
    assert torch.equal(tokens_of(ours).features, tokens_of(theirs).features)


def test_the_plain_tower_refuses_a_pvc_checkpoint() -> None:
    """Frames that attend to each other are no pictures; the error names the right node."""
    with pytest.raises(ValueError, match="encode_pvc"):
        ran("internvl2", PICTURE, max_num=1, checkpoint="tiny-random-pvc")


def test_python_and_yaml_answer_alike() -> None:
    """examples/pvc.py builds the same graph, for pictures and clips; its three uses are PVC's."""
    example = runpy.run_path(str(EXAMPLES / "pvc.py"))
    assert list(example["USES"].values()) == [PICTURE, (PICTURE, PICTURE), CLIP]
    for media in (PICTURE, CLIP):
        written = run(example["pvc"](media, checkpoint="tiny-random-pvc", count=3), cache=False)
        loaded = ran("pvc", media, count=3, max_new_tokens=64, question="What is shown?")
        assert written["answer"] == loaded["answer"] != ""
        assert torch.equal(tokens_of(written).features, tokens_of(loaded).features)


def test_what_could_not_be_read_is_said() -> None:
    """In the graph's title, the README and the docs: PVC's modules are ours, its weights are not claimed."""
    graph, readme, docs = (
        " ".join((ROOT / file).read_text(encoding="utf-8").split())
        for file in ("graphs/pvc.yaml", "README.md", "docs/methods/pvc.md")
    )
    assert "title: PVC as we understand the paper, its code could not be read;" in graph
    for text in (readme, docs):
        assert re.search(r"modelling code could not be read\W", text)
        assert "weights of PVC-InternVL2-8B are not claimed to run" in text
