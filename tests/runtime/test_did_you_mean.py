"""Suggestions in error messages."""

from tokenloom.runtime.errors import did_you_mean


def test_the_nearest_name_is_suggested() -> None:
    """A near name is named alone."""
    assert did_you_mean("patchs", ["patches", "frames"]) == "; did you mean 'patches'?"


def test_a_short_list_is_shown_whole() -> None:
    """Without a near name all are listed, sorted; without any name nothing is said."""
    assert did_you_mean("x", ["frames", "beads"]) == "; known: beads, frames"
    assert did_you_mean("x", []) == ""


def test_a_long_list_is_cut() -> None:
    """Twelve names are enough to see what kind of name is wanted."""
    names = [f"n{i:02d}" for i in range(20)]
    assert did_you_mean("zzz", names) == f"; known: {', '.join(names[:12])} and 8 more"
