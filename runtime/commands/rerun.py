"""`tokenloom rerun`: the run that made a picture or a result file, again, from the recipe inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from ..cache import default_cache
from ..graph import Graph
from ..plan import Plan, plan
from ..registry import load_plugin
from ..report.again import changes, check_files, graph_again, place_again, values_again
from ..report.reading import read_recipe
from ..report.same import held, sameness
from .guard import Phase
from .run import Asked, options, run, warn
from .words import apply_settings, given_params


def rerun(
    asked: Asked,
    phase: Phase,
    *,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    result_file: Path | None = None,
    saving: Sequence[str] = (),
) -> None:
    """Run a recipe again, print the results as `run` does, and say which are those that the file holds."""
    path = Path(asked.graph)
    before = held(path)  # now, for the new result may be written over it
    result = run(
        asked,
        phase,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        result_file=result_file,
        saving=saving,
        planning=again,
    )
    if as_json or quiet:
        return
    found = list(sameness(before, result))
    for verdict, wanted in (("the same as", True), ("other than", False)):
        if names := [name for name, same in found if same is wanted]:
            typer.echo(f"{verdict} in {path}: {', '.join(names)}", err=True)


def again(asked: Asked) -> Plan:
    """The plan of a recipe's run; `asked.graph` is the file that holds it, and its words replace parts of it.

    What is not as it was is told on stderr. Errors: GraphError for a file without a sound recipe, nodes that
    are missing, files and checkpoints that are gone or have changed.
    """
    path = Path(asked.graph)
    for plugin in asked.plugins:
        load_plugin(plugin)
    recipe = read_recipe(path)
    graph = graph_again(path, recipe)
    given = given_params(graph, asked.params)
    apply_settings(graph, asked.settings)
    replaced = {**given, **_settings(graph, asked)}
    for text in check_files(path, recipe, replaced):
        warn(text)
    until = asked.until or recipe.until
    device, dtype = place_again(recipe, asked.device, asked.dtype)
    made = plan(
        graph,
        values_again(path, recipe, graph, given),
        outputs=None if until else recipe.outputs,
        until=until,
        from_=asked.from_,
        device=device,
        dtype=dtype,
        cache=default_cache() if asked.cache else None,
    )
    for text in changes(path, recipe, made, replaced):
        warn(text)
    return replace(made, options=options(asked), verb="rerun")


def _settings(graph: Graph, asked: Asked) -> dict[str, Any]:
    """What `--set` put into the graph, by `node.setting`."""
    places = [word.partition("=")[0] for word in asked.settings]
    return {place: _setting(graph, place) for place in places}


def _setting(graph: Graph, place: str) -> Any:
    node, _, name = place.rpartition(".")
    return graph.steps[node].widgets[name]
