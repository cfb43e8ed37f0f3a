"""The bundled graph of TokenPacker-HD: crops, separators, and what it refuses before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image

from tokenloom import nodes, plan
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import BudgetError, CheckpointError, WiringError
from tokenloom.runtime.needs import Need
from tokenloom.runtime.result import Result
from tokenloom.runtime.values import Kind, Table, Tokens

from ..exact import load, run

PICTURE = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"  # 640 x 480
WANTED = tuple(Need("hidden", level) for level in (12, 16, 22, 23))
CROP, SEPARATOR = 144, int(Kind.SEPARATOR)


def ran(**params: Any) -> Result:
    return run("tokenpacker_hd", cache=False, **{"image": PICTURE, "max_new_tokens": 1} | params)


def tokens_of(result: Result) -> Tokens:
    return cast("Tokens", result["tokens"])


def picture(folder: Path, width: int, height: int) -> Path:
    """A picture of this size in a file."""
    path = folder / f"{width}x{height}.png"
    Image.new("RGB", (width, height), (200, 30, 60)).save(path)
    return path


def test_two_rows_of_three_crops_and_a_global_view() -> None:
    """144 tokens of each, a comma or a newline after each, and a table that says which tokens these are."""
    result = ran()
    tokens = tokens_of(result)
    assert tokens.kind.tolist().count(SEPARATOR) == 7
    assert tokens.home.bincount().tolist() == [CROP + 1] * 7
    assert bool((tokens.kind[CROP :: CROP + 1] == SEPARATOR).all())
    rows = cast("Table", result["separators"]).rows
    assert [(row[0], row[1], row[4]) for row in rows] == [("column", "','", 4), ("row", r"'\n'", 3)]


def test_every_patch_of_every_crop_is_spoken_for() -> None:
    """Through projector and separators, provenance holds: a quarter of a token for each of its patches."""
    tokens = tokens_of(ran())
    assert tokens.count.unique().tolist() == [0, 4]
    assert bool(tokens.coverage().sub(1 / 4).abs().lt(1e-5).all())


def test_the_graph_is_the_calls() -> None:
    """The same numbers as the nodes called one by one."""
    model = nodes.load_model(checkpoint="tiny-random-tokenpacker")
    frames = nodes.load_image(path=PICTURE)
    with demand(*WANTED):
        patches = nodes.encode_vision(model.vision, nodes.slice_hd(model.chat, frames, patch_num=4))
    visual = nodes.project_tokenpacker(model.projector, patches, scale_factor=3)
    made = nodes.assemble_hd(model.llm, visual, model.chat)
    result = ran(patch_num=4, scale_factor=3)
    assert tokens_of(result).features.equal(made.tokens.features)
    assert result["separators"] == made.separators


def test_pictures_have_grids_of_their_own(tmp_path: Path) -> None:
    """One crop, a row of two, and a column of two in one prompt, each in its slot."""
    sizes = [(96, 96), (192, 96), (96, 192)]
    tokens = tokens_of(ran(image=[picture(tmp_path, *size) for size in sizes], patch_num=2))
    assert tokens.frame.bincount().tolist() == [145, 3 * 145, 3 * 145]


def test_a_hair_thin_picture_runs(tmp_path: Path) -> None:
    """1x700, where the released code fails."""
    assert len(tokens_of(ran(image=picture(tmp_path, 1, 700)))) == 10 * 145


def test_crops_can_be_pruned_before_they_are_assembled(tmp_path: Path) -> None:
    """VisionZip's selection between projector and assembly: ten tokens of each crop, and its separator."""
    file = tmp_path / "few.yaml"
    file.write_text(
        "tokenloom: 1\nextends: tokenpacker_hd\nnodes:\n"
        "  few: {node: select_dominant, tokens: $visual, keep: 10}\n"
        "  packed: {tokens: $few.kept}\n"
    )
    result = run(file, image=PICTURE, max_new_tokens=1, cache=False)
    assert tokens_of(result).home.bincount().tolist() == [11] * 7


def test_more_crops_than_the_context_holds_are_refused_while_planning() -> None:
    """Counted from the pictures' headers, before any weight is read."""
    with pytest.raises(BudgetError) as error:
        plan(load("tokenpacker_hd"), {"image": PICTURE, "patch_num": 48})
    assert str(error.value) == (
        "place_tokens: the prompt has 7105 visual tokens and the text, the limit is 4096; keep fewer visual "
        "tokens, use fewer frames or tiles, or set truncate: true"
    )
    assert plan(load("tokenpacker_hd"), {"image": [PICTURE] * 2, "patch_num": 25}).steps


def test_no_crops_are_refused_while_planning() -> None:
    """patch_num: 0."""
    with pytest.raises(WiringError) as error:
        plan(load("tokenpacker_hd"), {"image": PICTURE, "patch_num": 0})
    assert str(error.value) == "params.patch_num: 0 is outside 1..4096"


def test_separators_that_the_tokenizer_lacks_are_refused() -> None:
    """Text of several tokens."""
    with pytest.raises(CheckpointError) as error:
        ran(row=";;")
    assert str(error.value).startswith("assemble_hd.row: ';;' is no token of tiny-random-tokenpacker, whose ")


def test_separators_may_be_left_out() -> None:
    """By null, and given by id."""
    tokens = tokens_of(ran(column=None, row=7, patch_num=4))
    assert tokens.kind.tolist().count(SEPARATOR) == 3
    assert torch.equal(tokens.home[tokens.kind == SEPARATOR], torch.tensor([1, 3, 4]))
