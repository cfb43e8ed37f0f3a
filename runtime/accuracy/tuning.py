"""Methods that choose their own number of tokens, tuned to a budget on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..cache import Cache
from ..run import execute
from .draft import Medium, Parts
from .methods import METHODS
from .suite import Setting, Suite

SCENES = 40
"""Of the validation split, each with one question."""
FEW = 8
"""Of them, where only the length of the text differs: in the caches."""
STEPS = 10
CLOSE = 0.002  # of the tokens


@dataclass(frozen=True)
class Asked:
    """A scene of the validation split and its question."""

    media: Path
    question: str


def tuned(
    settings: Sequence[Setting], parts: Parts, medium: Medium, frames: int, asked: Sequence[Asked]
) -> list[Setting]:
    """The settings, each with a knob where its method has one: what keeps the part nearest to the budget."""
    bench = _Bench(parts, medium, frames, asked)
    found: dict[tuple[str, float], float] = {}
    out: list[Setting] = []
    for setting in settings:
        if setting.part is None or setting.of.knob is None:
            out.append(setting)
            continue
        key = (setting.of.tuned_as or setting.method, setting.part)
        if key not in found:
            found[key] = bench.nearest(*key)
        out.append(replace(setting, knob=found[key]))
    return out


class _Bench:
    """The validation scenes, and what the uncompressed prompt holds of visual tokens."""

    def __init__(self, parts: Parts, medium: Medium, frames: int, asked: Sequence[Asked]) -> None:
        self.parts, self.frames, self.asked = parts, frames, asked
        self.medium: Medium = medium
        self.cache = Cache(None, memory=1 << 29)
        self.full = 1.0
        self.full = self.kept(Setting("full"), FEW)

    def nearest(self, method: str, part: float) -> float:
        """The knob that keeps most without exceeding that part, by halving; what is kept rises in steps."""
        bounds = METHODS[method].knob
        scenes = FEW if METHODS[method].stage == "cache" else SCENES
        assert bounds is not None
        low, high = bounds
        best, knob = (2.0, low), high
        for _ in range(STEPS):
            more = self.kept(Setting(method, part, knob), scenes) - part
            best = min(best, (-more if more <= CLOSE else 1 + more, knob))
            if -CLOSE <= more <= CLOSE or (knob == bounds[1] and more <= 0):
                break
            low, high = (low, knob) if more > 0 else (knob, high)
            knob = round((low + high) / 2, 5)
        return best[1]

    def kept(self, setting: Setting, scenes: int) -> float:
        """The part of the visual tokens that stays, the mean over scenes."""
        suite = Suite(self.parts, self.medium, [setting], self.frames)
        total = 0.0
        for nth, one in enumerate(self.asked[:scenes]):
            result = execute(suite.plan(one.media, one.question, nth, [setting.id], self.cache))
            placed, cached = suite.measured(setting.id, result)
            total += cached if setting.of.stage == "cache" else placed
        return total / len(self.asked[:scenes]) / self.full
