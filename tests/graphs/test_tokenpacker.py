"""TokenPacker as a graph: counts by one parameter, several pictures, other stages behind it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tokenloom.runtime.errors import WiringError
from tokenloom.runtime.values import Tokens

from ..exact import run

PICTURE = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"


@pytest.mark.parametrize(("scale", "count"), [(None, 144), (3, 64), (4, 36), (24, 1)])
def test_one_parameter_sets_the_tokens(scale: int | None, count: int) -> None:
    """Null is the checkpoint's own, which is 2."""
    done = run("tokenpacker", image=PICTURE, scale_factor=scale, max_new_tokens=2, cache=False)
    assert done["answer"] != ""
    assert len(cast("Tokens", done["tokens"])) == count


def test_several_pictures() -> None:
    """Each its own windows."""
    done = run("tokenpacker", image=[PICTURE, PICTURE], outputs=["tokens"], cache=False)
    assert cast("Tokens", done["tokens"]).frame.bincount().tolist() == [144, 144]


def test_a_scale_factor_that_does_not_divide_is_refused_before_work() -> None:
    """Said while planning."""
    with pytest.raises(WiringError, match=r"^project_tokenpacker.scale_factor: 5 does not divide 24 x 24"):
        run("tokenpacker", image=PICTURE, scale_factor=5, cache=False)


def test_stages_of_other_methods_follow(tmp_path: Path) -> None:
    """Pruning inside the language model keeps a part of the packed tokens."""
    file = tmp_path / "packed_fastv.yaml"
    file.write_text(
        "tokenloom: 1\nextends: tokenpacker\nnodes:\n"
        "  early: {node: prefill, llm: $model.llm, inputs: $placed, until: 2}\n"
        "  pruned: {node: prune_by_attention, state: $early, ratio: 0.5}\n"
        "  state: {inputs: $pruned}\n"
        "  kept: {node: read_tokens, state: $pruned}\n"
        "outputs: {tokens: $kept}\n"
    )
    done = run(file, image=PICTURE, max_new_tokens=2, cache=False)
    assert done["answer"] != ""
    assert len(cast("Tokens", done["tokens"])) == 72
