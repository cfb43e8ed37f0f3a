"""docs/training.md and the recipes' keys say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tokenloom.runtime.tiny.recipe import Losses, Recipe, Sizes, Stage, names

PAGE = Path(__file__).resolve().parents[3] / "docs" / "training.md"


@pytest.mark.parametrize("kind", [Recipe, Stage, Losses, Sizes])
def test_every_key_is_explained(kind: type) -> None:
    """A key that a recipe may have stands in a table of the page."""
    told = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"(?m)^\|.*$", PAGE.read_text()))))
    assert set(names(kind)) <= told
