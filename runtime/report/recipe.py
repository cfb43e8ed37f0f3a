"""Recipes: all that a run was made of, as a text that every picture and result file carries.

A recipe is JSON: the whole graph as YAML (settings changed on the command line included), every parameter,
fingerprints of the files that were read, checkpoints, nodes and their code, and versions. It is data: reading
one runs and imports nothing, and it names no other graph file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..build import ParamRef
from ..dump import dump
from ..errors import GraphError
from ..files import file_fingerprint
from ..models.handle import Model
from ..version import __version__
from ..versions import versions

if TYPE_CHECKING:
    from ..graph import Graph
    from ..plan import Plan, Planned

FORMAT = 1
KEYWORD = "tokenloom"  # of the chunk in a PNG
OWN = "tokenloom."  # modules of nodes that every tokenloom has


@dataclass(frozen=True, kw_only=True)
class FilePrint:
    """A file or folder that a run read. at: the parameter (`image`) or setting (`frames.path`) naming it."""

    at: str
    path: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class NodePrint:
    """The code behind a node's name. file: where it lies, "" for tokenloom's own nodes."""

    version: int
    code: str
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """All that a run was made of.

    name: what the graph was called. graph: as YAML; "" where `lost` says why it cannot be written down.
    params: every parameter's value, as JSON. outputs: names of the results; until: the node it stopped after.
    output: the result that this file holds, of a picture. models: fingerprints of the checkpoints' parts, by
    step. nodes: by name. made: when, UTC.
    """

    title: str
    name: str
    graph: str
    params: Mapping[str, Any]
    outputs: tuple[str, ...]
    until: str | None
    device: str
    dtype: str
    files: tuple[FilePrint, ...] = ()
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    nodes: Mapping[str, NodePrint] = field(default_factory=dict[str, NodePrint])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    made: str = ""
    output: str = ""
    lost: str = ""

    def record(self) -> dict[str, Any]:
        """As JSON, with a checksum of all of it."""
        facts = {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}
        return {**facts, "checksum": checksum(facts)}

    def text(self) -> dict[str, str]:
        """Keywords and texts for a PNG: the recipe in ASCII, and the program."""
        return {"Software": f"tokenloom {__version__}", KEYWORD: json.dumps(self.record())}


def recipe_text(plan: Plan, output: str = "") -> dict[str, str]:
    """What `write_png` puts into a picture that a run of `plan` made: `rerun` and `view` read it.

    output: the result's name.
    """
    return recipe_of(plan, output).text()


def recipe_of(plan: Plan, output: str = "") -> RunRecipe:
    """The recipe of a plan's run. Files are fingerprinted as they are now."""
    graph, params = with_whole_paths(plan)
    try:
        text, lost = dump(graph), _given_in_python(plan)
    except GraphError as error:
        text, lost = "", str(error)
    return RunRecipe(
        title=graph.title,
        name=graph.at or "",
        graph=text,
        params={name: plain(value) for name, value in params.items() if graph.params[name].widget},
        outputs=tuple(plan.outputs),
        until=plan.until,
        device=plan.device,
        dtype=plan.dtype,
        files=tuple(_files(plan)),
        models={step.id: prints for step in plan.steps if (prints := model_prints(step))},
        nodes={step.statics.type.name: node_print(step) for step in plan.steps},
        versions=versions(),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        output=output,
        lost=lost,
    )


def checksum(facts: Mapping[str, Any]) -> str:
    """Of a recipe's record, to notice damage and edits by hand; it proves nothing about who wrote it."""
    kept = {name: value for name, value in facts.items() if name != "checksum"}
    text = json.dumps(kept, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def plain(value: Any) -> Any:
    """A parameter's value as JSON: paths absolute, infinities as YAML writes them."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if isinstance(value, Path):
        return os.path.abspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ".inf" if value > 0 else "-.inf"
    return value


def _given_in_python(plan: Plan) -> str:
    """Why a run cannot be repeated from its recipe: values that only Python can give."""
    params = plan.graph.params
    names = [n for n, value in plan.params.items() if params[n].widget is None and value is not None]
    return f"{', '.join(names)} was given in Python, and is not written down" if names else ""


def node_print(step: Planned) -> NodePrint:
    """Version and code of a step's node."""
    kind = step.statics.type
    module = str(kind.fn.__module__)
    file = "" if module.startswith(OWN) else getattr(sys.modules.get(module), "__file__", None) or module
    return NodePrint(version=kind.version, code=_code_print(step.statics.code.parts), file=file)


def _code_print(parts: Mapping[str, str]) -> str:
    """A hash of code, the same wherever its file lies (the module of a `--plugin` file is named after it)."""
    lines = sorted(f"{name.rpartition('::')[2]}={digest}" for name, digest in parts.items())
    return hashlib.blake2b("\n".join(lines).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def model_prints(step: Planned) -> tuple[str, ...]:
    """Fingerprints of the checkpoint's parts that a step loads; () when it loads none."""
    return () if step.inputs else tuple(model.fingerprint for model in _models(step))


def _models(step: Planned) -> Iterator[Model[Any]]:
    known = step.known if isinstance(step.known, tuple) else (step.known,)
    return (one for one in known if isinstance(one, Model))


def _files(plan: Plan) -> Iterator[FilePrint]:
    """The files that parameters name, and those that settings name in the graph itself."""
    for name, value in plan.params.items():
        yield from _prints(name, value)
    for step in plan.steps:
        for name, value in step.step.widgets.items():
            yield from _prints(f"{step.id}.{name}", value)


def _prints(at: str, value: Any) -> Iterator[FilePrint]:
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, Path):
            path = os.path.abspath(one)
            yield FilePrint(at=at, path=path, fingerprint=file_fingerprint(path))


def with_whole_paths(plan: Plan) -> tuple[Graph, dict[str, Any]]:
    """The graph and the parameters, with checkpoints in relative folders named absolutely.

    A checkpoint is a text, for it may be a hub id; that it is a folder here is known from what it was
    resolved to.
    """
    graph, params = plan.graph, dict(plan.params)
    for step in plan.steps:
        folders = {os.path.realpath(model.folder) for model in _models(step)} if not step.inputs else set()
        for name, value in step.widgets.items() if folders else ():
            if not isinstance(value, str) or os.path.realpath(value) not in folders:
                continue
            given, whole = step.step.widgets.get(name), os.path.abspath(value)
            if isinstance(given, ParamRef):
                params[given.name] = whole
            elif name in step.step.widgets:
                graph = graph if graph is not plan.graph else graph.copy()
                graph.steps[step.id] = replace(step.step, widgets={**step.step.widgets, name: whole})
    return graph, params
