"""Every combination runs, or is refused before any work; docs/support.md says which."""

from __future__ import annotations

import re
from functools import cache

import pytest

from .bases import BASES
from .matrix import Bench
from .page import HEAD, PAGE, glance_head, glance_row, section
from .stages import ROWS, TOKENS, layouts, projectors, row_nodes, token_nodes, token_stages

CURRENT = "python -m tests.mixing.page writes the page anew"


@cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BASES)
def test_no_combination_fails_while_it_runs(name: str) -> None:
    """Every one runs with what it should give, or is refused; and the page says so of this base."""
    found = Bench(BASES[name]).survey()
    assert glance_row(BASES[name], found) in page().splitlines(), CURRENT
    assert section(BASES[name], found) in page(), CURRENT


def test_the_page_has_these_bases_and_no_others() -> None:
    """Nothing is left over from before."""
    assert page().startswith(HEAD + "\n" + "\n".join(glance_head())), CURRENT
    assert re.findall(r"^## (.+)$", page(), re.MULTILINE)[1:] == list(BASES), CURRENT


def test_every_stage_runs_somewhere() -> None:
    """What is refused everywhere is not mixed at all."""
    rows = [line.split("|")[2:-1] for line in page().splitlines() if re.search(r"`[b.][a.]`", line)]
    assert len(rows) == len(BASES)
    for stage, cells in zip(token_stages()[1:], zip(*rows, strict=True), strict=True):
        assert {cell.strip() for cell in cells} - {"`..`"}, f"{stage.name} is refused on every base"


@pytest.mark.parametrize("node", token_nodes())
def test_every_node_that_makes_fewer_tokens_is_mixed(node: str) -> None:
    """A new one joins with its defaults; one that takes more than tokens needs a stage of its own."""
    covered = {name for stage in token_stages() for name in stage.covers}
    assert node in covered, f"{node} turns tokens into tokens; add a Stage of it to tests/mixing/stages.py"


def test_a_node_without_a_stage_joins_by_itself() -> None:
    """With its defaults, as select_by_mass does."""
    assert "select_by_mass" not in {name for stage in TOKENS for name in stage.covers}
    assert "select_by_mass" in {stage.name for stage in token_stages()}


@pytest.mark.parametrize("node", row_nodes())
def test_every_node_that_changes_rows_is_mixed(node: str) -> None:
    """Inside the language model."""
    covered = {name for rows in ROWS for name in rows.covers}
    assert node in covered, f"{node} turns a state into a state; add it to ONCE in tests/mixing/stages.py"


def test_every_projector_has_a_base() -> None:
    """And every layout is a column of every base."""
    assert {base.projector for base in BASES.values()} == projectors().keys()
    assert {base.layout for base in BASES.values()} - {""} <= layouts().keys()
