"""Result files: what came out of a run, or how it failed, as one JSON file that `view` and `rerun` read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..draw import svg
from ..events import Event, NodeCached, NodeDone, NodeFailed
from ..files import write_whole
from ..models.handle import Model
from ..pictures import png_bytes
from ..plain import as_json
from ..plan import Plan
from ..result import Result, Row
from ..values import Picture
from .reading import MARK, RESULT_FORMAT
from .recipe import RunRecipe, recipe_of
from .thumbnails import inputs_of

if TYPE_CHECKING:
    from ..graph import Graph


class Recorder:
    """A subscriber that keeps what is known of a run that may not end well: steps done, and the failure.

    command: what was typed. graph: its name there. plan, result: set by whoever plans and runs, as soon as
    there is one.
    """

    def __init__(self) -> None:
        self.command = ""
        self.graph = ""
        self.plan: Plan | None = None
        self.result: Result | None = None
        self.rows: list[Row] = []
        self.failed: NodeFailed | None = None
        self.began: float | None = None
        self.now = 0.0

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self.began = event.time if self.began is None else self.began
        self.now = event.time
        if isinstance(event, NodeDone):
            self.rows.append(
                Row(
                    event.node,
                    event.type,
                    event.seconds,
                    "",
                    event.tokens_in,
                    event.tokens_out,
                    event.bytes,
                    event.peak,
                    event.loading,
                    event.flops,
                )
            )
        elif isinstance(event, NodeCached):
            row = Row(event.node, event.type, 0.0, event.tier, None, event.tokens_out, 0, 0, 0.0, None)
            self.rows.append(row)
        elif isinstance(event, NodeFailed):
            self.failed = event

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        return 0.0 if self.began is None else self.now - self.began


def plain(result: Result) -> dict[str, Any]:
    """A result as one JSON object; pictures are told by their size."""
    return {
        "ok": True,
        **_about(result.plan),
        "seconds": result.seconds,
        "outputs": {name: as_json(value) for name, value in result.outputs.items()},
        "stages": [stage(row) for row in result.report],
    }


def _about(plan: Plan) -> dict[str, Any]:
    return {
        "title": plan.graph.title,
        "graph": plan.graph.at,
        "device": plan.device,
        "dtype": plan.dtype,
        "random_weights": random_weights(plan),
    }


def stage(row: Row) -> dict[str, Any]:
    """One step of the report."""
    return {
        "node": row.id,
        "type": row.type,
        "cached": row.cached or None,
        "tokens_in": row.tokens_in,
        "tokens_out": dict(row.tokens_out),
        "seconds": row.seconds,
        "bytes": row.bytes,
        "peak": row.peak,
        "loading": row.loading,
        "flops": row.flops,
    }


def random_weights(made: Plan) -> bool:
    """True when a model of the plan was never trained."""
    known = [step.known for step in made.steps]
    flat = [one for value in known for one in (value if isinstance(value, tuple) else (value,))]
    chats = [value.facts.chat for value in flat if isinstance(value, Model)]
    return any(chat is not None and chat.random_weights for chat in chats)


def success(result: Result, command: str = "") -> dict[str, Any]:
    """The record of a run that went well: all that `plain` has, pictures, inputs, drawing and recipe.

    command: what was typed; by default what one would type.
    """
    recipe = recipe_of(result.plan)
    return {
        MARK: RESULT_FORMAT,
        **plain(result),
        "kinds": {name: type(value).__name__ for name, value in result.outputs.items()},
        "command": command or result.plan.command(),
        "error": None,
        "left": [],
        "pictures": {
            name: _picture(value, replace(recipe, output=name))
            for name, value in result.outputs.items()
            if isinstance(value, Picture)
        },
        **_made_from(result.plan, recipe),
    }


def failure(error: BaseException, seen: Recorder) -> dict[str, Any]:
    """The record of a run that failed or was stopped, maybe before there was a plan."""
    plan = seen.plan
    done = {row.id for row in seen.rows}
    left = [] if plan is None else [s.id for s in plan.steps if s.state == "run" and s.id not in done]
    empty = {"title": "", "graph": seen.graph or None, "device": "", "dtype": "", "random_weights": False}
    nothing: dict[str, Any] = {"recipe": None, "inputs": [], "drawing": "", "notes": []}
    return {
        MARK: RESULT_FORMAT,
        "ok": False,
        **(empty if plan is None else _about(plan)),
        "seconds": seen.seconds,
        "outputs": {},
        "stages": [stage(row) for row in seen.rows],
        "kinds": {},
        "command": seen.command,
        "error": {
            "type": type(error).__name__,
            "message": "stopped" if isinstance(error, KeyboardInterrupt) else str(error),
            "notes": list(getattr(error, "__notes__", ())),
            "node": None if seen.failed is None else seen.failed.node,
            "node_type": None if seen.failed is None else seen.failed.type,
        },
        "left": left,
        "pictures": {},
        **(nothing if plan is None else _made_from(plan, recipe_of(plan))),
    }


def _picture(value: Picture, recipe: RunRecipe) -> dict[str, str]:
    """A PNG with the recipe inside, so that it is there when the picture is taken out of a report."""
    return {"png": _text(png_bytes(value, recipe.text())), "caption": value.caption}


def _made_from(plan: Plan, recipe: RunRecipe) -> dict[str, Any]:
    """Recipe, inputs as small pictures, the drawing of the graph, and what the nodes foresaw."""
    inputs = [{**asdict(one), "jpegs": [_text(jpeg) for jpeg in one.jpegs]} for one in inputs_of(plan)]
    return {
        "recipe": recipe.record(),
        "inputs": inputs,
        "drawing": svg(with_values(plan.graph, plan.params)),
        "notes": list(plan.notes),
    }


def with_values(graph: Graph, values: Mapping[str, Any]) -> Graph:
    """The graph, for drawing: parameters have the values of a run as their defaults."""
    drawn = graph.copy()
    for name, param in graph.params.items():
        if name in values and param.widget is not None:
            drawn.params[name] = replace(param, default=values[name])
    return drawn


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a result file, whole or not at all. Errors: OSError as it is."""
    write_whole(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
