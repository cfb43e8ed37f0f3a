"""From a recipe to a plan of the same run; and what is not as it was: files, checkpoints, nodes, versions."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..build import ParamRef
from ..device import resolve_device
from ..errors import GraphError, LoomError, WiringError
from ..files import MISSING_FILE, file_fingerprint
from ..registry import all_nodes
from ..versions import versions
from ..yamltree import scalar
from .reading import graph_from
from .recipe import FilePrint, RunRecipe, model_prints, node_print

if TYPE_CHECKING:
    from ..graph import Graph
    from ..plan import Plan


def graph_again(path: Path, recipe: RunRecipe) -> Graph:
    """The recipe's graph, once all its nodes are known.

    Errors: GraphError that names the file of each node that is missing, and what is wrong with the graph.
    """
    missing = {name: node.file for name, node in recipe.nodes.items() if name not in all_nodes()}
    lines = [
        f"{path}: it was made with the nodes {', '.join(n for n in missing if missing[n] == file)} of "
        f"{_whose(file)}"
        for file in dict.fromkeys(missing.values())
    ]
    if lines:
        raise GraphError("\n".join(lines))
    return graph_from(path, recipe)


def _whose(file: str) -> str:
    if not file:
        return "another version of tokenloom, which are not here"
    if file.endswith(".py"):
        return f"{file}; a recipe holds no code: if you trust that file, say --plugin {file}"
    return f"the module {file}; a recipe holds no code: install it, or give its file with --plugin"


def values_again(path: Path, recipe: RunRecipe, graph: Graph, given: Mapping[str, Any]) -> dict[str, Any]:
    """The run's parameters, `given` ones instead of the recorded.

    Errors: GraphError for values that were given in Python, and are not replaced; WiringError for a recorded
    value that the graph does not take.
    """
    out: dict[str, Any] = {}
    for name, value in recipe.params.items():
        param = graph.params.get(name)
        if param is None or param.widget is None:
            raise GraphError(f"{path}: the recipe gives {name}, which is no parameter of its graph")
        try:
            out[name] = param.widget.check("params", value)
        except WiringError:
            if not isinstance(value, str):
                raise
            out[name] = param.widget.check("params", scalar(value))  # infinities are texts in JSON
    out.update(given)
    if recipe.lost and any(param.required and name not in out for name, param in graph.params.items()):
        raise GraphError(f"{path}: {recipe.lost}; run it in Python again")
    return out


def check_files(path: Path, recipe: RunRecipe, replaced: Mapping[str, Any]) -> list[str]:
    """Warnings about files that `replaced` names (by parameter or setting) and that hold other bytes.

    Errors: GraphError that lists every recorded file that is gone or has changed, and what to say instead.
    """
    problems = [
        _gone(path, one)
        for one in recipe.files
        if one.at not in replaced and _print(one.path) != one.fingerprint
    ]
    if problems:
        raise GraphError("\n".join(problems))
    return [
        f"{at}: its bytes are not those that {path} was made from: results will differ"
        for at, value in replaced.items()
        if (old := [one.fingerprint for one in recipe.files if one.at == at])
        and (new := _prints(value)) != old
        and MISSING_FILE not in new  # an error soon
    ]


def _gone(path: Path, one: FilePrint) -> str:
    """What is wrong with a recorded file, and the words that replace it."""
    word, where = (f"--set {one.at}", one.at) if "." in one.at else (one.at, f"params.{one.at}")
    if _print(one.path) == MISSING_FILE:
        return (
            f"{where}: {one.path}, which {path} was made from, is not there any more; if it was moved, say "
            f"{word}=FILE"
        )
    return (
        f"{where}: {one.path} has changed since {path} was made (its bytes differ); put the old file back, "
        f"or say {word}={one.path} to take it as it is"
    )


def _prints(value: Any) -> list[str]:
    paths = value if isinstance(value, tuple) else (value,)
    return [_print(one) for one in paths if isinstance(one, Path)]


def _print(path: Path | str) -> str:
    """The fingerprint of a file or folder; of a device or a pipe, which may never end, as if it were gone."""
    return file_fingerprint(path) if os.path.isfile(path) or os.path.isdir(path) else MISSING_FILE


def changes(path: Path, recipe: RunRecipe, plan: Plan, replaced: Collection[str]) -> Iterator[str]:
    """Warnings: other versions, nodes with other code, another device or dtype.

    replaced: parameters and settings (`model.checkpoint`) that were given anew. Errors: GraphError for a
    checkpoint whose files differ, while tokenloom is the same.
    """
    here, then = versions(), recipe.versions
    differ = [name for name in {**then, **here} if then.get(name) != here.get(name)]
    if differ:
        old = ", ".join(f"{name} {then.get(name, 'none')}" for name in differ)
        new = ", ".join(f"{name} {here.get(name, 'none')}" for name in differ)
        yield f"made with {old}; here is {new}: results may differ"
    other = sorted(_other_code(recipe, plan))
    if other:
        yield f"the code of {', '.join(other)} has changed since {path} was made: results may differ"
    for name, old, new in (("device", recipe.device, plan.device), ("dtype", recipe.dtype, plan.dtype)):
        if old != new:
            yield f"{name}: made with {old}, this run has {new}: results may differ"
    yield from _checkpoints(path, recipe, plan, replaced, strict="tokenloom" not in differ)


def _other_code(recipe: RunRecipe, plan: Plan) -> set[str]:
    now = {step.statics.type.name: step for step in plan.steps}
    known = {name: old for name, old in recipe.nodes.items() if name in now}
    prints = {name: node_print(now[name]) for name in known}
    return {n for n, old in known.items() if (old.version, old.code) != (prints[n].version, prints[n].code)}


def _checkpoints(
    path: Path, recipe: RunRecipe, plan: Plan, replaced: Collection[str], strict: bool
) -> Iterator[str]:
    for id, old in recipe.models.items():
        step = plan.by_id.get(id)
        if step is None or model_prints(step) == old:
            continue
        settings = step.step.widgets
        words = {
            name: value.name if isinstance(value, ParamRef) else f"{id}.{name}"
            for name, value in settings.items()
        }
        if set(words.values()) & set(replaced):
            continue
        name = "checkpoint" if "checkpoint" in words else next(iter(words), "checkpoint")
        word = words.get(name, f"{id}.{name}")
        text = f"{id}: {step.widgets.get(name)} is not the checkpoint that {path} was made with"
        if strict:
            ask = f"--set {word}" if "." in word else word
            raise GraphError(
                f"{text} (its files differ); give the old one as {ask}=..., or say "
                f"{ask}={step.widgets.get(name)} to take it as it is"
            )
        yield f"{text}, or another tokenloom sees it otherwise: results may differ"


def place_again(recipe: RunRecipe, device: str, dtype: str) -> tuple[str, str]:
    """Device and dtype of the rerun: as asked, else the recorded; another device where that is not there."""
    if device == "auto":
        try:
            device = resolve_device(recipe.device)
        except LoomError:
            device = "auto"
    return device, recipe.dtype if dtype == "auto" else dtype
