"""What part of every group of visual tokens stays: a number, a part kept, or a part dropped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .budget import check_one
from .errors import BudgetError, BudgetNotice

Rounding = Literal["floor", "round", "at_least_one"]
ALPHA = 0.4  # PruneVid's, when nothing is said


class NothingLeftError(BudgetError):
    """A share that rounds to no token of what there is."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """keep: tokens of each group; ratio: part that stays; drop: part that goes. One of them, or none: 0.4."""

    keep: int | None = None
    ratio: float | None = None
    drop: float | None = None
    rounding: Rounding = "floor"
    allow_none: bool = False

    def check(self, where: str) -> None:
        """A BudgetError when it is given in more than one way, or keeps nothing of whatever comes."""
        check_one(where, keep=self.keep, ratio=self.ratio, drop=self.drop)
        if not self.allow_none and int(self._of(torch.tensor([2**31]))) == 0:
            raise BudgetError(
                f"{where}.{self.way}: no visual token would stay; keep some, or set allow_none: true"
            )

    @property
    def way(self) -> str:
        """The one that is given, as it is written."""
        given = {"keep": self.keep, "drop": self.drop}
        return next(
            (f"{name} {value}" for name, value in given.items() if value is not None),
            f"ratio {ALPHA if self.ratio is None else self.ratio}",
        )

    def taken(self, where: str, size_G: Tensor) -> Tensor:
        """`of`, but shares that round to nothing take one token of the largest group, with a BudgetNotice.

        So that a run does not end where an adaptive method left very few tokens of one of many pictures;
        what is known while planning is refused there.
        """
        try:
            return self.of(where, size_G)
        except NothingLeftError as error:
            warnings.warn(f"{error}; one is kept", BudgetNotice, stacklevel=3)
            return torch.zeros_like(size_G.cpu()).index_fill_(0, size_G.cpu().argmax(), 1)

    def of(self, where: str, size_G: Tensor) -> Tensor:
        """[G] long, on the CPU: how many of each group stay. size_G: [G] long. Raises BudgetError."""
        self.check(where)
        size_G = size_G.cpu()
        sizes = sorted(size_G[size_G > 0].tolist(), reverse=True)
        if not sizes and not self.allow_none:
            raise BudgetError(
                f"{where}.state: it has no visual tokens to prune; give the prompt an image or a video, take "
                "this node out, or set allow_none: true"
            )
        if self.keep is not None and sizes and self.keep > sizes[-1]:
            raise self._too_many(where, sizes)
        keep_G = self._of(size_G)
        if not self.allow_none and not int(keep_G.sum()):
            raise self._nothing(where, sizes)
        return keep_G

    def _of(self, size_G: Tensor) -> Tensor:
        if self.keep is not None:
            return size_G.clamp_max(self.keep)
        return self._rounded(size_G, self._part)

    def _rounded(self, size_G: Tensor, part: float) -> Tensor:
        exact_G = size_G.double() * part  # Python's product: int(100 * 0.29) is 28
        if self.rounding == "round":
            return exact_G.round().long()  # half to even, as Python's
        least = (size_G > 0).long() if self.rounding == "at_least_one" else torch.zeros_like(size_G)
        return exact_G.long().maximum(least)

    def _keeps(self, size: int, part: float) -> bool:
        return bool(self._rounded(torch.tensor([size]), part).any())

    @property
    def _part(self) -> float:
        if self.drop is not None:
            return 1 - self.drop
        return ALPHA if self.ratio is None else self.ratio

    def _too_many(self, where: str, sizes: Sequence[int]) -> BudgetError:
        least = sizes[-1]
        if len(sizes) == 1:
            return BudgetError(
                f"{where}: keep {self.keep} of {least} visual tokens; set keep to {least} or less"
            )
        return BudgetError(
            f"{where}: keep {self.keep} of each of {len(sizes)} groups of visual tokens ({_listed(sizes)}); "
            f"set keep to {least} or less, or select: global"
        )

    def _nothing(self, where: str, sizes: Sequence[int]) -> NothingLeftError:
        """What would keep one token of the largest group, to three decimals."""
        down = self.drop is not None
        name, steps = ("drop", range(1000, -1, -1)) if down else ("ratio", range(1001))
        enough = next(x / 1000 for x in steps if self._keeps(sizes[0], 1 - x / 1000 if down else x / 1000))
        many = f"{len(sizes)} groups of visual tokens" if len(sizes) > 1 else "visual tokens"
        instead = " or select: global" if len(sizes) > 1 else ""
        return NothingLeftError(
            f"{where}: {self.way} of {many} ({_listed(sizes)}) keeps none of them; set {name} to {enough}, "
            f"rounding: at_least_one{instead}, or allow_none: true to go on without any"
        )


def _listed(sizes: Sequence[int]) -> str:
    more = f" and {len(sizes) - 8} more" if len(sizes) > 8 else ""
    return ", ".join(map(str, sizes[:8])) + more
