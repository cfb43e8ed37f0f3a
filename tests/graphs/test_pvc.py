"""The bundled graphs of InternVL2 and PVC: pictures, several pictures and clips through one graph each."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tokenloom import run
from tokenloom.runtime.errors import MediaError, MediaNotice
from tokenloom.runtime.result import Result
from tokenloom.runtime.values import VisualTokens

from .. import clips

EXAMPLES = Path(__file__).parents[2] / "examples"
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
    torch.testing.assert_close(both.features[: len(one)], one.features)  # sequences of their own
    torch.testing.assert_close(both.features[len(one) :], one.features)


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
    import numpy as np

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


def test_the_plain_tower_refuses_a_pvc_checkpoint() -> None:
    """Frames that attend to each other are no pictures; the error names the right node."""
    with pytest.raises(ValueError, match="encode_pvc"):
        ran("internvl2", PICTURE, max_num=1, checkpoint="tiny-random-pvc")


def test_python_and_yaml_answer_alike() -> None:
    """examples/pvc.py builds the same graph, for pictures and clips; its three uses are PVC's."""
    example = runpy.run_path(str(EXAMPLES / "pvc.py"))
    assert list(example["USES"].values()) == [PICTURE, (PICTURE, PICTURE), CLIP]
    for media in (PICTURE, CLIP):
        written = run(example["pvc"](media, count=3), cache=False)
        loaded = ran("pvc", media, count=3, max_new_tokens=64)
        assert written["answer"] == loaded["answer"] != ""
        assert torch.equal(tokens_of(written).features, tokens_of(loaded).features)
