"""The bundled graphs: they load, check, say what they are, and do what their titles say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml

from tokenloom.runtime.errors import BudgetError
from tokenloom.runtime.values import Kind, Tokens

from ..exact import load, run

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "graphs").rglob("*.yaml"))
PICTURE = ROOT / "examples" / "media" / "shapes.png"
CLIP = ROOT / "examples" / "media" / "shapes.mp4"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT / "graphs")))
def test_every_file_checks(file: Path) -> None:
    """No mistakes, a title, and a help text for every parameter that has no default."""
    graph = load(file)
    graph.check()
    assert graph.title
    assert all(param.help for param in graph.params.values() if param.required)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT / "graphs")))
def test_every_file_is_yaml_to_every_reader(file: Path) -> None:
    """PyYAML's own parser too, which takes a bare `?` before a brace for a mistake; libyaml does not."""
    assert yaml.load(file.read_text("utf-8"), yaml.SafeLoader)["tokenloom"] == 1


@pytest.mark.parametrize(("given", "keep", "targets"), [({"keep": 54, "targets": 10}, 54, 10), ({}, 14, 3)])
def test_visionzips_budget(given: dict[str, Any], keep: int, targets: int) -> None:
    """By attention, [CLS] first, and contextual, that together stand for every patch once.

    Where nothing is said it is 54 + 10 of 576 patches, in proportion for this tower's 144.
    """
    tokens = cast("Tokens", run("visionzip", image=PICTURE, cache=False, **given)["tokens"])
    kinds = tokens.kind.tolist()
    assert kinds == [int(Kind.CLS)] + [int(Kind.PATCH)] * (keep - 1) + [int(Kind.CONTEXTUAL)] * targets
    assert torch.equal(tokens.member.sort().values, torch.arange(144))


def test_visionzip_takes_several_pictures() -> None:
    """A list of pictures is one prompt with a slot for each, and a budget of each."""
    tokens = cast("Tokens", run("visionzip", image=[PICTURE, PICTURE], cache=False)["tokens"])
    assert tokens.frame.bincount().tolist() == [17, 17]


def test_visionzip_next_compresses_every_tile() -> None:
    """27 + 5 tokens of the base tile and of each tile of the grid, without newlines."""
    tokens = cast("Tokens", run("visionzip_next", image=PICTURE, cache=False)["tokens"])
    assert set(tokens.home.bincount().tolist()) == {32}
    assert int((tokens.kind == int(Kind.NEWLINE)).sum()) == 0


def test_visionzip_video_spends_its_budget_on_frames() -> None:
    """8 frames, each with a budget of its own."""
    tokens = cast("Tokens", run("visionzip_video", video=CLIP, count=8, cache=False)["tokens"])
    assert tokens.frame.bincount().tolist() == [17] * 8


def test_a_budget_that_does_not_fit_is_refused_before_work() -> None:
    """More tokens than the tower gives: said while planning."""
    with pytest.raises(BudgetError) as error:
        run("visionzip", image=PICTURE, keep=200, cache=False)
    assert str(error.value) == ("select_dominant: keep 200 of 145 tokens per tile; set keep to 145 or less")


def test_merging_alone_needs_no_kept_tokens(tmp_path: Path) -> None:
    """LightCompress's merge_only: every patch goes into a contextual token; `kept` stays open."""
    file = tmp_path / "merge_only.yaml"
    file.write_text(
        "tokenloom: 1\nextends: visionzip\n"
        "nodes:\n  dominant: {keep: 0, cls_token: drop}\n  merged: {kept: null}\n"
    )
    tokens = cast("Tokens", run(file, image=PICTURE, targets=12, cache=False)["tokens"])
    assert tokens.kind.tolist() == [int(Kind.CONTEXTUAL)] * 12
    assert torch.equal(tokens.member.sort().values, torch.arange(144))
