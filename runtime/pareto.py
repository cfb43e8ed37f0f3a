"""Which of many points no other beats: the Pareto front of quality against cost."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]], *, higher: bool = True) -> list[bool]:
    """Per (cost, quality) whether no other point is as good in both and better in one.

    Less cost is better; of the quality more is, or less when `higher` is False. Equal points are on the front
    together.
    """
    sign = -1.0 if higher else 1.0
    order = sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1]))
    out = [False] * len(points)
    best: tuple[float, float] | None = None
    for i in order:
        here = (points[i][0], sign * points[i][1])
        if best is None or here[1] < best[1]:
            best = here
        out[i] = here == best
    return out
