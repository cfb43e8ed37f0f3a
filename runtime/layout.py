"""A layered layout, top to bottom: longest-path layers, barycentre order, least-squares places.

Long edges pass through dummy points, one per layer and source port, so that edges from one port share their
way. Everything is linear or sweeps a fixed number of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SWEEPS = 12  # of ordering
SETTLES = 48  # of placing
GAP = 36.0  # between boxes of a layer
ROUTE = 18.0  # between edges that pass through a layer
BETWEEN = 54.0  # between layers


@dataclass
class Box:
    """A rectangle with ports: x offsets of inputs along the top and of outputs along the bottom.

    x, y are those of the top left corner, set by `place`.
    """

    name: str
    width: float
    height: float
    inputs: dict[str, float] = field(default_factory=dict[str, float])
    outputs: dict[str, float] = field(default_factory=dict[str, float])
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Link:
    """From an output port of one box to an input port of another."""

    source: str
    output: str
    target: str
    input: str


@dataclass
class _Point:
    """A box, or a place where an edge passes a layer; `x` is its left side."""

    layer: int
    width: float
    box: Box | None = None
    x: float = 0.0
    up: list[tuple[_Point, float, float]] = field(default_factory=list["tuple[_Point, float, float]"])
    down: list[tuple[_Point, float, float]] = field(default_factory=list["tuple[_Point, float, float]"])


@dataclass(frozen=True)
class Placed:
    """The size of the drawing and the points of every link, from its output port to its input port."""

    width: float
    height: float
    ways: dict[Link, list[tuple[float, float]]]


def place(boxes: Sequence[Box], links: Sequence[Link]) -> Placed:
    """Set x and y of every box. Links that go back in the order of `boxes` are drawn but do not count."""
    number = {box.name: i for i, box in enumerate(boxes)}
    forward = [link for link in links if number[link.source] < number[link.target]]
    layer = _layers(boxes, forward)
    points = {box.name: _Point(layer[box.name], box.width, box) for box in boxes}
    routes, passing = _routes(points, forward)
    rows: list[list[_Point]] = [[] for _ in range(1 + max(layer.values(), default=-1))]
    for point in (*points.values(), *passing):
        rows[point.layer].append(point)
    _sort(rows)
    _spread(rows)
    bands = _bands(rows)
    left = min((p.x for row in rows for p in row), default=0.0)
    for point in points.values():
        assert point.box is not None
        point.box.x = point.x - left
        top, bottom = bands[point.layer]
        point.box.y = top + (bottom - top - point.box.height) / 2
    by_name = {box.name: box for box in boxes}
    ways = {link: _way(link, by_name, routes.get(link, []), bands, left) for link in links}
    right = max((p.x + p.width for row in rows for p in row), default=0.0)
    return Placed(right - left, bands[-1][1] if bands else 0.0, ways)


def _layers(boxes: Sequence[Box], links: Iterable[Link]) -> dict[str, int]:
    """The longest path from a source; sources then move down to just above what takes from them."""
    layer = {box.name: 0 for box in boxes}
    takers: dict[str, list[str]] = {box.name: [] for box in boxes}
    fed: set[str] = set()
    for link in links:
        takers[link.source].append(link.target)
        fed.add(link.target)
    for box in boxes:
        for taker in takers[box.name]:
            layer[taker] = max(layer[taker], layer[box.name] + 1)
    for box in boxes:
        if box.name not in fed and takers[box.name]:
            layer[box.name] = min(layer[taker] for taker in takers[box.name]) - 1
    return layer


def _routes(
    points: Mapping[str, _Point], links: Iterable[Link]
) -> tuple[dict[Link, list[_Point]], list[_Point]]:
    """The dummy points of every link, shared by the links of one output port."""
    shared: dict[tuple[str, str, int], _Point] = {}
    routes: dict[Link, list[_Point]] = {}
    for link in links:
        source, target = points[link.source], points[link.target]
        assert source.box is not None
        assert target.box is not None
        before, offset, way = source, source.box.outputs[link.output], list[_Point]()
        for layer in range(source.layer + 1, target.layer):
            key = (link.source, link.output, layer)
            if key not in shared:
                shared[key] = point = _Point(layer, 0.0)
                before.down.append((point, offset, 0.0))
                point.up.append((before, 0.0, offset))
            before, offset = shared[key], 0.0
            way.append(before)
        end = target.box.inputs[link.input]
        before.down.append((target, offset, end))
        target.up.append((before, end, offset))
        routes[link] = way
    return routes, list(shared.values())


def _sort(rows: list[list[_Point]]) -> None:
    """Order every layer by the mean place of its neighbours, down and up, and keep the best order."""
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        place = {id(p): float(i) for row in rows for i, p in enumerate(row)}
        for row in rows if down else reversed(rows):
            key = {}
            for i, point in enumerate(row):
                ends = point.up if down else point.down
                near = [place[id(p)] + theirs / (p.width or 1) for p, _, theirs in ends]
                key[id(point)] = sum(near) / len(near) if near else float(i)
            row.sort(key=lambda p: key[id(p)])
            for i, point in enumerate(row):
                place[id(point)] = float(i)
        if (count := _crossings(rows)) < fewest:
            best, fewest = [list(row) for row in rows], count
    rows[:] = best


def _crossings(rows: Sequence[Sequence[_Point]]) -> int:
    """How many pairs of edges between neighbouring layers cross."""
    total = 0
    for upper, lower in pairwise(rows):
        place = {id(p): float(i) for i, p in enumerate(lower)}
        ends: list[float] = []
        for point in upper:
            out = sorted((mine, place[id(p)] + theirs / (p.width + 1)) for p, mine, theirs in point.down)
            ends += [end for _, end in out]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _spread(rows: Sequence[Sequence[_Point]]) -> None:
    """x of every point: as near to its neighbours' ports as order and gaps allow."""
    for row in rows:
        _settle(row, [0.0] * len(row), [1.0] * len(row))
    for sweep in range(SETTLES):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wishes, weights = [], []
            for point in row:
                ends = [*point.up, *point.down] if sweep >= SETTLES // 3 else point.up if down else point.down
                pulls = [(_pull(point, p), p.x + theirs - mine) for p, mine, theirs in ends]
                weight = sum(pull for pull, _ in pulls)
                wishes.append(sum(pull * x for pull, x in pulls) / weight if pulls else point.x)
                weights.append(weight or 0.1)  # a box that nothing pulls gives way
            _settle(row, wishes, weights)


def _pull(a: _Point, b: _Point) -> float:
    """How straight the edge between two points should be: most of all where it only passes layers."""
    return (1.0, 3.0, 12.0)[(a.box is None) + (b.box is None)]


def _settle(row: Sequence[_Point], wishes: Sequence[float], weights: Sequence[float]) -> None:
    """The places nearest to the wishes (least squares) that keep order and gaps: pooled neighbours."""
    starts, offset = list[float](), 0.0
    for i, point in enumerate(row):
        starts.append(offset)
        last = i + 1 == len(row)
        both = not last and (point.box is None or row[i + 1].box is None)
        offset += point.width + (ROUTE if both else GAP)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for wish, weight, start in zip(wishes, weights, starts, strict=True):
        mean, count = wish - start, 1
        while pools and pools[-1][0] > mean:
            before, heavy, many = pools.pop()
            mean = (mean * weight + before * heavy) / (weight + heavy)
            weight, count = weight + heavy, count + many
        pools.append((mean, weight, count))
    i = 0
    for mean, _, count in pools:
        for point in row[i : i + count]:
            point.x = mean + starts[i]
            i += 1


def _bands(rows: Sequence[Sequence[_Point]]) -> list[tuple[float, float]]:
    """Top and bottom of every layer."""
    out: list[tuple[float, float]] = []
    top = 0.0
    for row in rows:
        height = max((p.box.height for p in row if p.box is not None), default=0.0)
        out.append((top, top + height))
        top += height + BETWEEN
    return out


def _way(
    link: Link,
    boxes: Mapping[str, Box],
    route: Sequence[_Point],
    bands: Sequence[tuple[float, float]],
    left: float,
) -> list[tuple[float, float]]:
    source, target = boxes[link.source], boxes[link.target]
    way = [(source.x + source.outputs[link.output], source.y + source.height)]
    for point in route:
        way += [(point.x - left, bands[point.layer][0]), (point.x - left, bands[point.layer][1])]
    return [*way, (target.x + target.inputs[link.input], target.y)]
