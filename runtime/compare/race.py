"""The run of a comparison: one merged graph, measured, and what each graph is charged with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

from ..agreement import divergence
from ..cache import Cache
from ..draw import svg
from ..errors import GraphError
from ..events import Subscriber
from ..plan import Plan, plan
from ..report.recipe import recipe_of
from ..report.record import random_weights, with_values
from ..report.thumbnails import inputs_of
from ..result import Result
from ..values import Answer, LLMState, Logits, Patches, Picture, Table
from ..widgets import MISSING
from .comparison import Column, Comparison, Stage
from .costs import Cost, Costs
from .field import Player
from .lens import ADDED, KEPT
from .measure import measure
from .merge import Merged, merge, output_name
from .towers import own_flops


@dataclass(frozen=True)
class Done:
    """What the merged run gave. costs: by merged step; failed: its error, by merged step."""

    result: Result
    costs: Mapping[str, Cost]
    failed: Mapping[str, Exception]
    seconds: float
    loading: float


def race(
    players: Sequence[Player],
    *,
    repeat: int = 1,
    cache: Cache | None = None,
    subscribers: Iterable[Subscriber] = (),
    cancel: Callable[[], bool] | None = None,
    notes: tuple[str, ...] = (),
) -> Comparison:
    """Run all graphs as one, shared steps once; the columns with what each needed."""
    merged = merge([one.plan for one in players], [one.entrant.name for one in players])
    done = _run(merged, players[0].plan, repeat, cache, tuple(subscribers), cancel)
    first = players[0].plan
    read = [_column(number, one, players, merged, done) for number, one in enumerate(players)]
    columns = [_compared(number, one, read, merged, done, players) for number, one in enumerate(players)]
    llm = players[0].llm
    return Comparison(
        columns=columns,
        question=str(next((q for one in players if (q := one.entrant.value("question"))), "")),
        inputs=tuple(inputs_of(first)),
        device=first.device,
        dtype=first.dtype,
        checkpoint="" if llm is None else llm.facts.name,
        seconds=done.seconds,
        loading=done.loading,
        repeats=repeat,
        random_weights=random_weights(first),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=notes,
    )


def _run(
    merged: Merged,
    like: Plan,
    repeat: int,
    cache: Cache | None,
    subscribers: Sequence[Subscriber],
    cancel: Callable[[], bool] | None,
) -> Done:
    """Measured `repeat` times; once more without the cache where it holds values whose cost nobody knows."""

    def planned(cache: Cache | None) -> Plan:
        return plan(merged.graph, merged.params, device=like.device, dtype=like.dtype, cache=cache)

    costs = Costs(cache)
    result, failed = measure(planned(cache), subscribers, cancel)
    found, seconds = costs.take(result), result.seconds
    loading = _loading(result)
    lost = _after(result.plan, failed)
    if any(step.id not in found and step.id not in lost for step in result.plan.steps):
        result, failed = measure(planned(None), subscribers, cancel)
        found, seconds, loading = costs.take(result), seconds + result.seconds, loading + _loading(result)
    runs = [found]
    for _ in range(repeat - 1):
        again, _ = measure(planned(None), subscribers, cancel)
        runs.append(costs.take(again))
        seconds += again.seconds
    return Done(result, _medians(runs), failed, seconds, loading)


def _loading(result: Result) -> float:
    return sum(row.loading for row in result.report)


def _after(plan: Plan, failed: Iterable[str]) -> set[str]:
    """The steps that failed, and all that follow them."""
    lost = set(failed)
    for step in plan.steps:
        if any(plan.steps[source].id in lost for source in plan.steps.sources(step.number)):
            lost.add(step.id)
    return lost


def _medians(runs: Sequence[Mapping[str, Cost]]) -> dict[str, Cost]:
    out: dict[str, Cost] = {}
    for id, cost in runs[0].items():
        all_of = [run[id] for run in runs if id in run]
        seconds, peak = (
            median(values) for values in zip(*((c.seconds, c.peak) for c in all_of), strict=True)
        )
        out[id] = cost._replace(seconds=seconds, peak=int(peak))
    return out


# -- columns -------------------------------------------------------------------------------------------------


def _column(number: int, one: Player, players: Sequence[Player], merged: Merged, done: Done) -> Column:
    """What a graph gave and took, without what it is compared with."""
    place = merged.places[number]
    stages = tuple(
        stage
        for planned in one.plan.steps
        if planned.id not in ADDED and (stage := _stage(one, planned.id, place[planned.id], merged, done))
    )
    towers = [p.id for p in one.plan.steps if Patches in p.statics.type.outputs.values()]
    first = next((stage for stage in stages if stage.id in towers), None)
    answer = _output(number, "answer", one, done, Answer)
    layers = _output(number, "layers", one, done, Table)
    picture = _output(number, "kept", one, done, Picture)
    error = _error(number, one, merged, done)
    entrant, shown = one.entrant, with_values(one.entrant.graph, one.plan.params)
    return Column(
        name=entrant.name,
        title=entrant.graph.title,
        at=entrant.graph.at or "",
        params=one.plan.params,
        base=players[one.base].entrant.name if one.base >= 0 else "",
        is_base=any(other.base == number for other in players),
        answer=answer,
        stages=stages,
        patches=None if first is None else sum(first.tokens_out.values()),
        layers=() if layers is None else tuple(int(row[2] or 0) for row in layers.rows),
        cached_bytes=None if layers is None else sum(int(row[3] or 0) for row in layers.rows),
        picture=picture,
        no_picture="" if picture is not None else _no_picture(number, one, merged, done),
        recipe=recipe_of(_seen(one)),
        drawing=svg(shown),
        error="" if error is None else f"{type(error).__name__}: {error}",
        notes=() if error is None else (*error.__notes__, f"to run it alone: {one.plan.command()}"),
    )


def _seen(one: Player) -> Plan:
    """The plan of the graph as it was given, with its picture: what a recipe tells."""
    plan_, seen = one.plan, one.lens.seen
    return plan(seen, plan_.params, device=plan_.device, dtype=plan_.dtype)


def _stage(one: Player, id: str, place: Sequence[str], merged: Merged, done: Done) -> Stage | None:
    """What the merged steps that do a step's work took together; None where one was not done."""
    costs = [done.costs[step] for step in place if step in done.costs]
    if len(costs) < len(place) or any(step in done.failed for step in place):
        return None
    steps = [done.result.plan.by_id[step] for step in place]
    counted = [cost.flops for cost in costs if cost.flops is not None]
    fresh = {row.id for row in done.result.report if not row.cached}
    cached = [step.state for step in steps if step.id not in fresh]
    return Stage(
        id=id,
        type=steps[0].statics.type.name,
        tokens_in=costs[0].tokens_in,
        tokens_out=costs[-1].tokens_out,
        seconds=sum(cost.seconds for cost in costs),
        flops=_own_flops(one, id, costs[-1], len(merged.users[place[0]]))
        or (sum(counted) if counted else None),
        bytes=costs[-1].bytes,
        peak=max(cost.peak for cost in costs),
        shared=len(merged.users[place[0]]),
        cached=(cached[0] if cached[0] != "run" else "memory") if cached else "",
        side=tuple(sorted(need.key for need in steps[0].wanted)),
        llm=any(kind in (LLMState, Answer) for kind in steps[0].statics.type.outputs.values()),
    )


def _own_flops(one: Player, id: str, cost: Cost, users: int) -> int | None:
    """Of a tower that others use too: what it would have taken for this graph alone."""
    planned = one.plan.by_id[id]
    return own_flops(one.plan, planned, sum(cost.tokens_out.values())) if users > 1 else None


def _output(number: int, name: str, one: Player, done: Done, kind: type[Any]) -> Any:
    """An output of a graph; None where it was not reached."""
    if name not in one.lens.outputs:
        return None
    value = done.result.outputs.get(output_name(number, one.lens.outputs[name]), MISSING)
    return value if isinstance(value, kind) else None


def _error(number: int, one: Player, merged: Merged, done: Done) -> Exception | None:
    """Why there is no answer of a graph, or nothing to measure it by."""
    for planned in one.plan.steps:
        for step in merged.places[number][planned.id]:
            if step in done.failed and planned.id not in _PICTURES:
                return done.failed[step]
    return None


_PICTURES = frozenset((KEPT, KEPT.replace("kept", "tokens")))


def _no_picture(number: int, one: Player, merged: Merged, done: Done) -> str:
    for id in _PICTURES:
        for step in merged.places[number].get(id, ()):
            if step in done.failed:
                return str(done.failed[step])
    return "" if "kept" in one.lens.outputs else "nothing is known of the pictures that its tiles are made of"


def _compared(
    number: int,
    one: Player,
    read: Sequence[Column],
    merged: Merged,
    done: Done,
    players: Sequence[Player],
) -> Column:
    """The column beside its base."""
    column = read[number]
    if one.base < 0 or column.error:
        return column
    base = read[one.base]
    kept = column.mean / base.mean if column.mean is not None and base.mean else None
    mine = _output(number, "logits", one, done, Logits)
    its = _output(one.base, "logits", players[one.base], done, Logits)
    if mine is None or its is None:
        return replace(column, kept=kept)
    a, b = its.values[-1], mine.values[-1]
    try:
        found: float | None = divergence(a, b)
    except GraphError:
        found = None
    same = int(a.argmax()) == int(b.argmax())
    return replace(column, kept=kept, kl=found, top1=same)
