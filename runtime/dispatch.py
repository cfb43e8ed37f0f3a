"""The dispatcher of one run: hands ready steps to a lane, and frees values after their last use.

It alone owns the run's state; lanes only compute. So lanes may get threads of their own without locks here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from .context import Context, current
from .describe import describe, token_count
from .errors import Cancelled, WroteIntoInputError
from .events import Bus, NodeCached, NodeDone, NodeFailed, NodeProgress, NodeStarted, RunDone, RunStarted
from .lanes import Completion, InlineLane, Job, Lane
from .plan import Plan, Planned
from .result import Result
from .store import bytes_of
from .widgets import MISSING

_NO_TOKENS: Mapping[str, int] = {}


class Dispatcher:
    """Owns the state of one run: values by slot, how often each is still needed, what waits for what."""

    def __init__(self, plan: Plan, bus: Bus, cancel: Callable[[], bool] | None) -> None:
        self.plan, self.bus, self.cancel = plan, bus, cancel
        self.values: list[Any] = [MISSING] * len(plan.fields)
        for slot, value in plan.given.items():
            self.values[slot] = value
        self.finished: SimpleQueue[Completion] = SimpleQueue()
        self.lane: Lane = InlineLane(self.finished, plan.device)
        # plain tuples and integers: a run of many small steps must not feed the garbage collector
        self.rows: list[tuple[Any, ...]] = []
        self.uses = [0] * len(plan.fields)
        self.waiting = [-1] * len(plan.steps)  # -1: does not run
        # the steps that wait for step s: taker[e] for e = first[s], then e = after[e], until -1
        self.first = [-1] * len(plan.steps)
        self.taker: list[int] = []
        self.after: list[int] = []
        self.ready: list[int] = []
        self.running: Planned | None = None
        self.contexts: dict[tuple[str, Any], Context] = {}

    def run(self) -> Result:
        """Run everything; the result."""
        begin = perf_counter()
        ok = False
        try:
            found = self._load()
            self._prepare(found)
            self._loop()
            ok = True
        except BaseException as error:
            self._stopped(error)
            raise
        finally:
            if self.plan.cache is not None:
                self.plan.cache.settle(self.plan.steps.recipes)
            if self.bus:
                peak = max((row[7] for row in self.rows), default=0)
                self.bus.emit(RunDone(seconds=perf_counter() - begin, ok=ok, peak=peak))
        outputs = {name: self.values[slot] for name, slot in self.plan.outputs.items()}
        return Result(outputs, self.rows, perf_counter() - begin, self.plan)

    # -- before the first node -----------------------------------------------------------------------------

    def _load(self) -> list[int]:
        """Take cached values; the numbers of all steps that must run, those of damaged entries included."""
        plan, cache = self.plan, self.plan.cache
        seen = bytearray(len(plan.steps))
        must: list[int] = []
        cached: list[tuple[Planned, Any]] = []
        stack = list(plan.targets)
        while stack:
            number = stack.pop()
            if seen[number]:
                continue
            seen[number] = 1
            value = MISSING
            if cache is not None and plan.steps.state(number) in ("memory", "disk"):
                value = cache.get(plan.steps.key(number), MISSING)
            if value is MISSING:
                must.append(number)
                stack += plan.steps.sources(number)
            else:
                cached.append((plan.steps[number], value))
        if self.bus:
            self.bus.emit(RunStarted(title=plan.graph.title, run=len(must), cached=len(cached)))
        for planned, value in sorted(cached, key=lambda one: one[0].number):
            self._give(planned, value)
            self._note_cached(planned, value, planned.state)
        return must

    def _prepare(self, must: list[int]) -> None:
        """Count uses and what every step waits for; the first steps become ready."""
        steps, uses, waiting = self.plan.steps, self.uses, self.waiting
        for slot in self.plan.outputs.values():
            uses[slot] += 1
        for number in must:
            waiting[number] = 0
        for number in must:
            for _, _, slots in steps.inputs(number):
                for slot in slots:
                    uses[slot] += 1
            for source in steps.sources(number):
                if waiting[source] >= 0:
                    waiting[number] += 1
                    self.after.append(self.first[source])
                    self.first[source] = len(self.taker)
                    self.taker.append(number)
        self.ready = [number for number in must if waiting[number] == 0]
        heapq.heapify(self.ready)

    # -- the loop ------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        flying = 0
        cache = self.plan.cache
        held = cache.memory.held if cache is not None and self.plan.from_ is None else {}
        while self.ready or flying:
            while self.ready:
                if self.cancel is not None and self.cancel():
                    raise Cancelled("stopped on request")
                planned = self.plan.steps[heapq.heappop(self.ready)]
                if planned.key in held:  # an identical step was done in this run
                    self._reuse(planned, held[planned.key][0])
                    continue
                self.running = planned
                if self.bus:
                    self._announce(planned)
                self.lane.submit(Job(planned, self._take(planned), self._context(planned)))
                flying += 1
                if not self.finished.empty():
                    break
            if flying:
                self._finish(self.finished.get())
                flying -= 1

    def _take(self, planned: Planned) -> dict[str, Any]:
        values = self.values
        return {
            name: tuple([values[slot] for slot in slots]) if variadic else values[slots[0]]
            for name, variadic, slots in planned.inputs
        }

    def _finish(self, completion: Completion) -> None:
        """Check, keep and cache the value of a step; free what nobody needs any more."""
        job, value, error, seconds, peak, loading, flops = completion
        planned = job.planned
        if error is not None:
            if isinstance(error, WroteIntoInputError) and self.plan.cache is not None:
                self.plan.cache.memory.clear()  # what is held may share memory with what was spoilt
            raise error
        planned.statics.check_output(value, planned.id, job.sockets)
        self._give(planned, value)
        size = self._keep(planned, value, seconds)
        tokens_in = _tokens_in(job.sockets)
        tokens_out = _tokens_out(planned, value)
        name = planned.statics.type.name
        self.rows.append((planned.id, name, seconds, "", tokens_in, tokens_out, size, peak, loading, flops))
        if self.bus:
            self.bus.emit(
                NodeDone(
                    node=planned.id,
                    type=name,
                    seconds=seconds,
                    bytes=size,
                    peak=peak,
                    loading=loading,
                    flops=flops,
                    tokens_in=tokens_in,
                    tokens_out=tokens_out,
                )
            )
        self._release(planned)

    def _keep(self, planned: Planned, value: Any, seconds: float) -> int:
        """Put a value into the cache; its bytes."""
        size, cache = bytes_of(value), self.plan.cache
        if cache is not None and not planned.volatile:
            cache.memory.put(planned.key, value, size, seconds)
            if cache.lasting(size, seconds):
                recipe = self.plan.steps.recipe(planned.number)
                cache.save(planned.key, value, seconds=seconds, name=planned.id, recipe=recipe)
        return size

    def _give(self, planned: Planned, value: Any) -> None:
        fields = self.plan.fields
        for slot in planned.outs:
            self.values[slot] = getattr(value, fields[slot]) if fields[slot] else value

    def _release(self, planned: Planned) -> None:
        """Free what was used for the last time; wake who waited for this step."""
        uses, waiting = self.uses, self.waiting
        self.running = None
        for _, _, slots in planned.inputs:
            for slot in slots:
                uses[slot] -= 1
                if uses[slot] == 0:
                    self.values[slot] = MISSING
        edge = self.first[planned.number]
        while edge >= 0:
            taker = self.taker[edge]
            waiting[taker] -= 1
            if waiting[taker] == 0:
                heapq.heappush(self.ready, taker)
            edge = self.after[edge]

    def _reuse(self, planned: Planned, value: Any) -> None:
        self._give(planned, value)
        self._note_cached(planned, value, "memory")
        self._release(planned)

    def _note_cached(self, planned: Planned, value: Any, tier: str) -> None:
        tokens = _tokens_out(planned, value)
        name = planned.statics.type.name
        self.rows.append((planned.id, name, 0.0, tier, None, tokens, bytes_of(value), 0, 0.0, None))
        if self.bus:
            self.bus.emit(NodeCached(node=planned.id, type=name, tier=tier, tokens_out=tokens))

    # -- what nodes and subscribers see --------------------------------------------------------------------

    def _context(self, planned: Planned) -> Context:
        key = (planned.device, planned.wanted)
        context = self.contexts.get(key)
        if context is None or self.bus:
            context = Context(
                device=planned.device,
                dtype=self.plan.dtype,
                wanted=planned.wanted,
                progress=self._progress(planned) if self.bus else _ignore,
                cancelled=self.cancel or _never,
                count=self.lane.count,
                decoder=current().decoder,
            )
            self.contexts[key] = context
        return context

    def _progress(self, planned: Planned) -> Callable[[int, int | None, str], None]:
        def report(done: int, total: int | None, text: str) -> None:
            name = planned.statics.type.name
            self.bus.emit(NodeProgress(node=planned.id, type=name, done=done, total=total, text=text))

        return report

    def _announce(self, planned: Planned) -> None:
        kind = planned.statics.type
        self.bus.emit(NodeStarted(node=planned.id, type=kind.name, lane=kind.lane))

    # -- after a failure -----------------------------------------------------------------------------------

    def _stopped(self, error: BaseException) -> None:
        """Say where the run stopped and how to resume; save what the next run goes on from."""
        planned = self.running
        if planned is None and self.ready:
            planned = self.plan.steps[self.ready[0]]
        if planned is None:
            return
        in_node = planned is self.running
        error.add_note(f"in node {planned.where}" if in_node else f"before node {planned.where}")
        if in_node and planned.inputs:
            error.add_note(f"inputs: {_told(self._take(planned))}")
        if self.plan.cache is not None or not in_node:
            again = "to go on from here: " if self._saved(planned) else "to run it again: "
            from_ = planned.id if again.startswith("to go") else self.plan.from_
            error.add_note(again + self.plan.command(from_))
        if self.bus:
            self.bus.emit(
                NodeFailed(
                    node=planned.id,
                    type=planned.statics.type.name,
                    error=type(error).__name__,
                    message=str(error),
                    notes=tuple(error.__notes__),
                )
            )

    def _saved(self, failed: Planned) -> bool:
        """Put on disk what the steps that are left need; True when `failed` can start from what is there."""
        steps, cache = self.plan.steps, self.plan.cache
        if cache is None or (cache.disk is None and self.plan.graph.at is not None):
            return False  # the memory of this process is gone when the command is typed
        done = {row[0] for row in self.rows}
        left = [number for number, count in enumerate(self.waiting) if count >= 0]
        sources = {
            source for number in left if steps[number].id not in done for source in steps.sources(number)
        }
        for number in sorted(sources):
            planned = steps[number]
            held = cache.memory.held.get(planned.key)
            if held is not None and cache.disk is not None and not cache.disk.has(planned.key):
                recipe = steps.recipe(number)
                cache.save(planned.key, held[0], seconds=held[2], name=planned.id, recipe=recipe)
        lasting = cache.memory.held.__contains__ if cache.disk is None else cache.disk.has
        return all(lasting(steps.key(source)) for source in steps.sources(failed.number))


def _told(sockets: Mapping[str, Any]) -> str:
    """`kept: Tokens[54 x 1024, float16, cuda:0], rest: Tokens[...]`."""
    return ", ".join(
        f"{name}: ({', '.join(map(describe, value))})"
        if isinstance(value, tuple)
        else f"{name}: {describe(value)}"
        for name, value in sockets.items()
    )


def _tokens_in(sockets: Mapping[str, Any]) -> int | None:
    total = None
    for value in sockets.values():
        for one in value if type(value) is tuple else (value,):
            count = token_count(one)
            if count is not None:
                total = count + (total or 0)
    return total


def _tokens_out(planned: Planned, value: Any) -> Mapping[str, int]:
    if planned.statics.named:
        return {
            name: count
            for name, one in zip(value._fields, value, strict=True)
            if (count := token_count(one)) is not None
        }
    count = token_count(value)
    return _NO_TOKENS if count is None else {"": count}


def _ignore(done: int, total: int | None, text: str) -> None:
    return None


def _never() -> bool:
    return False
