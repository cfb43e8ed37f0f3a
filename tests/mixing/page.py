"""docs/support.md, written from what the matrix found: `python -m tests.mixing.page`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import conftest as conftest  # where the checkpoints lie
from .bases import BASES, Base, folder
from .matrix import Bench, Survey
from .stages import ROWS, token_stages

PAGE = Path(__file__).parents[2] / "docs" / "support.md"
HEAD = """# What goes with what

Every way of making fewer tokens, before and after the projector, with every change of the rows inside the
language model, on every bundled base: a picture, two pictures of different shapes, a clip. Each combination
was run on small checkpoints with random weights, and its provenance, shapes, budgets and numbers were
checked; or it was refused before any work, with the sentence below its base. None fails while it runs. On one
base of each graph also pairs were run: of stages, of stages and orders of tokens, of changes of rows.

This page is written by `python -m tests.mixing.page`, and `tests/mixing` checks that it is true. Frames of
PLLaVA and of OneVision's clips are pooled first, as in `prumerge_pllava`. Settings are small (12 tokens of a
tile, half of the rows); what is refused with them may go with others, as is said there. `PruneVid over time`
is `cluster_temporal` and `merge_static`, `PruneVid in a frame` is `cluster_spatial`.

## At a glance

`b`: before the projector, `a`: after it, `.`: refused there.
"""


def written() -> str:
    """The page, of all bases."""
    surveys = {base.name: (base, Bench(base).survey()) for base in BASES.values()}
    glance = [*glance_head(), *(glance_row(base, found) for base, found in surveys.values())]
    sections = [section(base, found) for base, found in surveys.values()]
    return "\n".join([HEAD, *glance, "", *sections])


def glance_head() -> list[str]:
    """The table's first lines; stages as columns."""
    names = [stage.name for stage in token_stages()[1:]]
    return [f"| base | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]


def glance_row(base: Base, found: Survey) -> str:
    """One base's line."""
    cells = [
        ("." if before else "b") + ("." if after else "a") for before, after in [*found.placed.values()][1:]
    ]
    return f"| {base.name} | " + " | ".join(f"`{cell}`" for cell in cells) + " |"


class Notes:
    """Sentences by number."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}

    def __call__(self, sentence: str) -> str:
        """`yes`, or the number of the sentence that refuses it."""
        if not sentence:
            return "yes"
        return f"({self.number.setdefault(_plain(sentence), len(self.number) + 1)})"

    def lines(self) -> list[str]:
        """The sentences."""
        return [f"{number}. {sentence}" for sentence, number in self.number.items()]


def section(base: Base, found: Survey) -> str:
    """All of one base."""
    notes = Notes()
    names = [rows.name for rows in ROWS[1:]]
    lines = [
        f"## {base.name}",
        "",
        f"`{base.checkpoint}`, `{base.projector}`{f', then `{base.layout}`' if base.layout else ''}.",
        "",
        f"| stage | before | after | {' | '.join(names)} |",
        "|---" * (len(names) + 3) + "|",
        *(_row(name, found, notes) for name in found.placed),
        "",
        *(_pairs(found, notes) if base.thorough else []),
        "Other projectors: "
        + ", ".join(f"`{name}` {notes(said)}" for name, said in found.projectors.items() if said)
        + ".",
        "",
        *notes.lines(),
        "",
    ]
    return "\n".join(lines)


def _pairs(found: Survey, notes: Notes) -> list[str]:
    return [
        *_refusals("Two stages", "then", found.pairs, notes),
        *_refusals("Order of tokens", "in", found.layouts, notes),
        *_refusals("Rows changed twice", "then", _by_first(found.changes), notes),
    ]


def _row(name: str, found: Survey, notes: Notes) -> str:
    cells = [notes(said) for said in found.placed[name]]
    changes = found.rows.get(name, {})
    cells += [notes(changes[rows.name]) if changes else "-" for rows in ROWS[1:]]
    return f"| {name} | {' | '.join(cells)} |"


def _refusals(title: str, word: str, found: Mapping[str, Mapping[str, str]], notes: Notes) -> list[str]:
    """One line for every first part that does not go with everything."""
    refused: dict[str, list[str]] = {}
    for first, seconds in found.items():
        told = ", ".join(f"{second} {notes(said)}" for second, said in seconds.items() if said)
        refused.setdefault(told, []).append(first)
    lines = [
        f"- {'any' if len(firsts) == len(found) else ', '.join(firsts)}; {word}: {told}"
        for told, firsts in refused.items()
        if told
    ]
    good = sum(not said for seconds in found.values() for said in seconds.values())
    total = sum(map(len, found.values()))
    return [f"{title}: {good} of {total} run{'.' if good == total else ', all but'}", *lines, ""]


def _by_first(changes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    out: dict[str, dict[str, str]] = {}
    for name, said in changes.items():
        first, second = name.split("; ")
        out.setdefault(first, {})[second] = said
    return out


def _plain(sentence: str) -> str:
    """Without the folder of checkpoints that were made for the test."""
    return sentence.replace(f"{folder()}/", "").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
