"""Toy nodes for tests of graphs, files, plans and drawings: no tensors, instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from tokenloom import Needs, Range, node


@dataclass(frozen=True)
class Clip:
    """A toy video: some numbers."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Beads:
    """Toy tokens."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Gems(Beads):
    """Toy tokens of another kind, fit for every `Beads` socket."""


class Sorted(NamedTuple):
    kept: Beads
    rest: Beads


@node
def loom_clip(*, path: Path = Path("clip.mp4"), length: Annotated[int, Range(0, 1000)] = 6) -> Clip:
    """A clip of `length` numbers.

    path: a file that nobody opens.
    length: how many numbers.
    """
    return Clip(tuple(range(length)))


@node(provides=("weight",))
def loom_encode(clip: Clip, *, layer: int = -2) -> Beads:
    """One bead per number of the clip."""
    return Beads(clip.numbers)


@node
def loom_sort(
    beads: Annotated[Beads, Needs("weight", when={"score": "weight"})],
    *,
    keep: Annotated[int, Range(1, 576)] = 54,
    score: Literal["mean", "weight"] = "mean",
    note: str | None = None,
) -> Sorted:
    """The first `keep` beads, and the rest.

    keep: beads that stay.
    """
    return Sorted(Beads(beads.numbers[:keep]), Beads(beads.numbers[keep:]))


@node
def loom_join(kept: Beads, rest: Beads | None = None, *, times: float = 1.0) -> Beads:
    """Both, in order."""
    return Beads(kept.numbers + (rest.numbers if rest else ()))


@node
def loom_polish(beads: Beads) -> Gems:
    """Gems of the beads."""
    return Gems(beads.numbers)


@node
def loom_chain(*beads: Beads, levels: tuple[int, ...] = (1, 2), files: tuple[Path, ...] = ()) -> Beads:
    """All of them, in connection order."""
    return Beads(tuple(n for b in beads for n in b.numbers))


@node
def loom_say(gems: Gems, *, question: str, loud: bool = False) -> str:
    """What the gems say."""
    return f"{question} {sum(gems.numbers)}"
