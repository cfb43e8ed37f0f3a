"""Token budgets: the published settings by name, and one total split over tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .errors import BudgetError

Preset = Literal[192, 128, 64, 640, 320, 160]
Short = Literal["error", "fewer"]  # what a tile with fewer tokens than its budget gets


@dataclass(frozen=True)
class Budget:
    """Tokens of each tile: kept by attention ([CLS] included), and merged into."""

    keep: int
    targets: int


PRESETS: dict[Preset, Budget] = {
    # LLaVA-1.5, one tile of 576 patches
    192: Budget(162, 30),
    128: Budget(108, 20),
    64: Budget(54, 10),
    # LLaVA-NeXT, a 2 x 2 grid and its base tile (2880 patches): five tiles; other grids give other totals
    640: Budget(108, 20),
    320: Budget(54, 10),
    160: Budget(27, 5),
}


PATCHES = 576  # of a tile of the released LLaVA models
USUAL = PRESETS[64]  # the budget of such a tile where nothing is said


def in_proportion(count: int, patches: int) -> int:
    """`count` of every 576 patches, for a tile of so many: the nearest number, halves up, 1 at least."""
    return max((2 * count * patches + PATCHES) // (2 * PATCHES), 1)


def told_of(name: str, number: int, count: int, patches: int) -> str:
    """What a plan says of a budget in proportion: `keep 6: 54 of every 576 patches, of 64`."""
    return f"{name} {number}: {count} of every {PATCHES} patches, of {patches}"


def check_one(where: str, **given: float | None) -> None:
    """A BudgetError when the budget is given in more than one way: those of `given` that are not None."""
    ways = [f"{name} {value}" for name, value in given.items() if value is not None]
    if len(ways) > 1:
        raise BudgetError(f"{where}: {' and '.join(ways)} are given; one of them says how many, keep that")


def varying(where: str, name: str, way_out: str = "set short: fewer") -> BudgetError:
    """The error for a number of tokens of every tile, where nobody knows how many a tile has."""
    return BudgetError(
        f"{where}.{name}: how many tokens a tile has depends on what the pictures show here, and may be "
        f"fewer; {way_out}"
    )


def split_evenly(total: int, parts: int, device: torch.device | None = None) -> Tensor:
    """[parts] long that sum to `total`; the first `total % parts` parts get one more than the others."""
    part = torch.arange(parts, device=device)
    return total // parts + (part < total % parts).long()


def part_of(ratio: float, count_K: Tensor, least: int = 0) -> Tensor:
    """[tiles] long: `ratio` of each tile's tokens, rounded down as int(ratio * n), but `least` or more."""
    return (count_K.double().cpu() * ratio).long().clamp_min(least).to(count_K.device)


def per_tile(each: int, total: int | None, tiles: int, device: torch.device | None = None) -> Tensor:
    """[tiles] long: `each` for every tile, or `total` split evenly over them."""
    if total is None:
        return torch.full((tiles,), each, dtype=torch.long, device=device)
    return split_evenly(total, tiles, device)
