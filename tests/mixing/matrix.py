"""One combination of stages on one base: what came of it. And all combinations of a base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from warnings import catch_warnings, simplefilter

from tokenloom import nodes
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import BudgetNotice, LoomError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import execute

from .bases import HANDLES, Base
from .checks import check_language, check_plan, check_stage, check_tokens
from .stages import PAIRS, ROWS, TOKENS, Rows, Stage, layouts, projectors, token_stages

NOTHING = TOKENS[0]


@dataclass(frozen=True)
class Mix:
    """Stages before and after the projector; "": the base's own projector and layout.

    rows: inside the language model; None: up to the placed prompt only.
    """

    before: Stage = NOTHING
    after: tuple[Stage, ...] = ()
    projector: str = ""
    layout: str = ""
    rows: Rows | None = None


@dataclass
class Survey:
    """What became of all combinations of a base: "" where it ran, else the sentence that refused it.

    placed: before and after the projector. rows: by stage and change of rows, the stage before the projector
    where it may be there, else after it. pairs: of two stages, likewise. changes: of rows, one after another.
    """

    placed: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    rows: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    pairs: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    layouts: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    changes: dict[str, str] = field(default_factory=dict[str, str])
    projectors: dict[str, str] = field(default_factory=dict[str, str])


class Bench:
    """One base with its cache: the encode of a picture is shared by all combinations that ask the same."""

    def __init__(self, base: Base) -> None:
        self.base, self.cache = base, Cache(None, memory=1 << 29)
        self.head, self.given = base.opened()

    def refused(self, mix: Mix) -> str:
        """The sentence that a plan refuses it with, before any work; "" when it ran and holds what it should.

        Errors: whatever a run raises after it was planned, AssertionError for what it gave; with the mix.
        """
        try:
            made = plan(self.written(mix), self.given, cache=self.cache)
        except LoomError as error:
            return str(error)
        try:
            with catch_warnings():
                simplefilter("ignore", BudgetNotice)  # of very few tokens one is kept
                result = execute(made)
            check_plan(made, result)
            check_stage(mix.before.keeps, result["before"], result["seen"])
            if mix.after:
                check_stage(mix.after[-1].keeps, result["after"], result["projected"])
            check_tokens(result["placed"].tokens[0])
            if mix.rows is not None:
                check_language(mix.rows, result)
        except Exception as error:
            error.add_note(f"in {self.base.name}: {mix}")
            raise
        return ""

    def written(self, mix: Mix) -> Graph:
        """The graph of a combination."""
        graph = self.head.copy()
        if mix.before.features != "auto":
            graph.set("patches", features=mix.before.features)
        with graph:
            model = SimpleNamespace(**{name: graph[name] for name in HANDLES})
            seen = graph["patches"]
            if self.base.pooled is not None:
                seen = nodes.pool_tokens(seen, grid=self.base.pooled)
            before = mix.before.add(seen)
            projected = projectors()[mix.projector or self.base.projector](model.projector, before)
            after = projected
            for stage in mix.after:
                after = stage.add(after)
            layout = mix.layout or self.base.layout
            visual = layouts()[layout](model, after) if layout else after
            placed = nodes.place_tokens(model.llm, graph["prompt"], visual)
            graph.output(
                seen=seen, before=before, projected=projected, after=after, visual=visual, placed=placed
            )
            if mix.rows is not None:
                state = mix.rows.add(model.llm, placed)
                answer = nodes.generate(model.llm, state, model.chat, max_new_tokens=2, min_new_tokens=2)
                logits, left = nodes.read_logits(model.llm, state), nodes.read_tokens(state)
                graph.output(state=state, logits=logits, answer=answer.answer, left=left)
        return graph

    def survey(self) -> Survey:
        """Every stage x before and after the projector x every change of rows.

        On one base of each graph besides: every pair of stages, every layout, rows changed twice.
        """
        found = Survey()
        where: dict[str, Mapping[str, Any]] = {}
        stages = token_stages()
        for stage in stages:
            ways: list[Mapping[str, Any]] = [{"before": stage}, {"after": (stage,)}]
            before, after = (self.refused(Mix(**way)) for way in ways)
            found.placed[stage.name] = before, after
            if not (before and after):
                where[stage.name] = ways[bool(before)]
        for name, way in where.items():
            found.rows[name] = {rows.name: self.refused(Mix(**way, rows=rows)) for rows in ROWS}
            if not self.base.thorough:
                continue
            found.layouts[name] = {other: self.refused(Mix(**way, layout=other)) for other in layouts()}
            found.pairs[name] = {
                other.name: self.refused(Mix(**{**way, "after": (*way.get("after", ()), other)}))
                for other in stages[1:]
            }
        found.projectors = {name: self.refused(Mix(projector=name)) for name in projectors()}
        if not self.base.thorough:
            return found
        few = where.get("merge_contextual", {})
        found.changes = {rows.name: self.refused(Mix(**few, rows=rows)) for rows in PAIRS}
        return found
