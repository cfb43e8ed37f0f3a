"""`tokenloom rerun`: the run that made a picture or a result file, again, from the recipe inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from ..report.same import held, not_computed, sameness
from ..result import Result
from .guard import Phase
from .run import Asked, options, run, warn
from .words import apply_settings, given_params

CACHED = "from the cache, not computed again, as"


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
    for text in verdicts(path, before, result):
        typer.echo(text, err=True)


def verdicts(path: Path, before: Mapping[str, Any], result: Result) -> Iterator[str]:
    """What came out as the file holds it, what did not, and what the cache held alone: a line each."""
    cached = not_computed(result)
    told: dict[str, list[str]] = {"the same as": [], CACHED: [], "other than": []}
    for name, same in sameness(before, result):
        verdict = "other than" if not same else CACHED if name in cached else "the same as"
        told[verdict].append(name)
    for verdict, names in told.items():
        more = "; --no-cache computes all" if verdict == CACHED else ""
        if names:
            yield f"{verdict} in {path}: {', '.join(names)}{more}"


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
