"""The command line. Everything heavy is imported inside the commands, so that `--help` is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .commands.guard import guard

app = typer.Typer(
    name="tokenloom",
    help="Visual token compression for vision-language models, as a typed node graph.",
    epilog="GRAPH is a graph file or the name of a built-in graph, such as visionzip. "
    "Exit codes: 0 fine, 1 the run failed, 2 bad usage or graph, 130 stopped.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = typer.Typer(help="Values of earlier runs on disk.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache_app, name="cache")
shapes_app = typer.Typer(
    help="Coloured shapes, a benchmark with exact answers.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(shapes_app, name="shapes")
bench_app = typer.Typer(help="Benchmarks.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench_app, name="bench")

GraphName = Annotated[str, typer.Argument(metavar="GRAPH", help="Graph file or built-in graph.")]
Values = Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Parameters of the graph.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NODE.SETTING=VALUE", help="Change a setting of a node.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="NODE", help="Stop after this node.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="NODE", help="Run from this node on; what lies before comes from the cache."
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16, float16.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE", help="Python file with further nodes.")
]
ResultFile = Annotated[
    Path | None,
    typer.Option("--result", metavar="FILE.json", help="Write the result, or the failure, for `view`."),
]
Saved = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--save",
        metavar="NAME=FILE.png",
        help="Save a picture among the results; a folder: all of them.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write.")]


def _version(wanted: bool) -> None:
    if wanted:
        from .version import __version__

        typer.echo(f"tokenloom {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    return None


@app.command()
def run(
    graph: GraphName,
    values: Values = None,
    settings: Settings = None,
    until: Until = None,
    from_: From = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    no_cache: NoCache = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the results.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say what every node does.")] = False,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Write a Chrome trace (chrome://tracing).")
    ] = None,
    events: Annotated[
        Path | None, typer.Option("--events", metavar="FILE", help="Write every event as a line of JSON.")
    ] = None,
    result: ResultFile = None,
    save: Saved = None,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Run a graph: tokenloom run visionzip image=cat.jpg keep=54."""
    with guard(debug=debug, as_json=as_json) as phase:
        from .commands.run import Asked
        from .commands.run import run as run_it

        asked = Asked(
            graph=graph,
            params=values or (),
            settings=settings or (),
            until=until,
            from_=from_,
            device=device,
            dtype=dtype,
            cache=not no_cache,
            plugins=plugin or (),
        )
        run_it(
            asked,
            phase,
            as_json=as_json,
            quiet=quiet,
            verbose=verbose,
            trace=trace,
            events=events,
            result_file=result,
            saving=save or (),
        )


@app.command()
def rerun(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="PNG or result file that tokenloom wrote.")],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Instead of the recorded ones.")
    ] = None,
    settings: Settings = None,
    until: Until = None,
    from_: From = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    no_cache: NoCache = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the results.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say what every node does.")] = False,
    result: ResultFile = None,
    save: Saved = None,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Run again what made a PNG or result file."""
    with guard(debug=debug, as_json=as_json) as phase:
        from .commands.rerun import rerun as run_again
        from .commands.run import Asked

        asked = Asked(
            graph=str(file),
            params=values or (),
            settings=settings or (),
            until=until,
            from_=from_,
            device=device,
            dtype=dtype,
            cache=not no_cache,
            plugins=plugin or (),
        )
        run_again(
            asked,
            phase,
            as_json=as_json,
            quiet=quiet,
            verbose=verbose,
            result_file=result,
            saving=save or (),
        )


@app.command()
def view(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="Result file, or PNG by tokenloom.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.html", help="Default: beside RESULT.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Write an HTML report of a result file."""
    with guard(debug=debug):
        from .commands import look
        from .commands.view import view as write_page

        look.load_plugins(plugin or ())
        write_page(result, output, show)


@app.command()
def check(
    graphs: Annotated[
        list[str] | None,
        typer.Argument(metavar="GRAPH|NAME=VALUE", help="Default: all built-in graphs."),
    ] = None,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Find what is wrong in graph files; with values, plan them."""
    with guard(debug=debug):
        from .commands import look

        look.load_plugins(plugin or ())
        look.check(graphs or ())


@app.command()
def plan(
    graph: GraphName,
    values: Values = None,
    settings: Settings = None,
    until: Until = None,
    from_: From = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    no_cache: NoCache = False,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Show what a run would do: what runs, why, what is cached."""
    with guard(debug=debug, as_json=as_json):
        from .commands.look import show_plan
        from .commands.run import Asked

        asked = Asked(
            graph=graph,
            params=values or (),
            settings=settings or (),
            until=until,
            from_=from_,
            device=device,
            dtype=dtype,
            cache=not no_cache,
            plugins=plugin or (),
        )
        show_plan(asked, as_json=as_json)


@app.command()
def sweep(
    graph: Annotated[str, typer.Argument(metavar="GRAPH", help="Graph file, built-in graph, or sweep file.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=V,V", help="Values of parameters; a text or path: repeat the word."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="JSON lines: parameters, answer, id, kind.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Rows, default GRAPH.sweep.jsonl.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="The rows as Parquet, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw --y against --x: .png, .svg, .pdf.")
    ] = None,
    x: Annotated[
        str | None, typer.Option("--x", metavar="FIGURE", help="tokens, flops, seconds ...; default tokens.")
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", metavar="FIGURE", help="accuracy or kl; default what there is.")
    ] = None,
    kl: Annotated[bool, typer.Option("--kl", help="Compare the first token with the base's.")] = False,
    base: Annotated[
        str | None, typer.Option("--base", metavar="GRAPH", help="Default: what GRAPH extends; implies --kl.")
    ] = None,
    score: Annotated[
        str | None, typer.Option("--score", metavar="RULE", help="exact, contains or choice; default exact.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="The first N items only.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Note what fails in its row, and go on.")
    ] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask, however many rows.")] = False,
    settings: Settings = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    no_cache: NoCache = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the files.")] = False,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Run a graph over a grid of parameters and a file of questions.

    tokenloom sweep visionzip keep=16,32,54 --data questions.jsonl --kl --plot out.png
    """
    with guard(debug=debug, as_json=as_json) as phase:
        from .commands.sweep import Asked
        from .commands.sweep import run as run_it

        asked = Asked(
            graph=graph,
            words=values or (),
            settings=settings or (),
            data=data,
            output=output,
            parquet=parquet,
            plot=plot,
            x=x,
            y=y,
            kl=kl,
            base=base,
            score=score,
            limit=limit,
            keep_going=keep_going,
            yes=yes,
            device=device,
            dtype=dtype,
            cache=not no_cache,
            plugins=plugin or (),
        )
        run_it(asked, phase, quiet=quiet, as_json=as_json)


@app.command(name="map")
def map_(
    graph: GraphName,
    items: Annotated[
        Path, typer.Argument(metavar="ITEMS.jsonl", help="JSON lines: parameters, id, answer, kind.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Rows go there; resumed if it has some.")
    ],
    values: Values = None,
    settings: Settings = None,
    save: Annotated[
        list[str] | None, typer.Option("--save", metavar="OUTPUT", help="Save its pictures or tensors, too.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Run nothing if any item is wrong.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run items again whose rows are failures.")
    ] = False,
    retries: Annotated[
        int, typer.Option("--retries", metavar="N", min=0, help="After errors of disk or network.")
    ] = 2,
    backoff: Annotated[
        float, typer.Option("--backoff", metavar="S", min=0, help="Seconds before the first retry.")
    ] = 0.5,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="The first N items only.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    cache: Annotated[bool, typer.Option("--cache", help="Read and write the cache.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the files.")] = False,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Run a graph for every line of a file.

    tokenloom map visionzip questions.jsonl -o out keep=54
    """
    with guard(debug=debug, as_json=as_json) as phase:
        from .commands.map import Asked
        from .commands.map import run as run_it
        from .mapping.job import Options

        options = Options(
            strict=strict,
            fail_fast=fail_fast,
            retry_failed=retry_failed,
            save=tuple(save or ()),
            limit=limit,
        )
        asked = Asked(
            graph=graph,
            items=items,
            output=output,
            words=values or (),
            settings=settings or (),
            options=options,
            retries=retries,
            backoff=backoff,
            device=device,
            dtype=dtype,
            cache=cache,
            plugins=plugin or (),
        )
        run_it(asked, phase, quiet=quiet, as_json=as_json)


@app.command()
def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="GRAPH|NAME=VALUE",
            help="GRAPH:NAME=V,V gives one graph values; none: all that fit.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.html", help="Write a page, too.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="GRAPH", help="Default: what each GRAPH extends.")
    ] = None,
    no_base: Annotated[bool, typer.Option("--no-base", help="Leave out the uncompressed graph.")] = False,
    repeat: Annotated[
        int, typer.Option("--repeat", metavar="N", min=1, help="Measure N times; medians, no cache.")
    ] = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    no_cache: NoCache = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the table.")] = False,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Run graphs on one question, shared stages once, and compare them.

    tokenloom compare visionzip:keep=16,32 fastv image=cat.jpg -o page.html
    """
    with guard(debug=debug, as_json=as_json) as phase:
        from .commands.compare import Asked
        from .commands.compare import run as run_it

        asked = Asked(
            words=words or (),
            output=output,
            base=base,
            no_base=no_base,
            repeat=repeat,
            device=device,
            dtype=dtype,
            cache=not no_cache,
            plugins=plugin or (),
        )
        run_it(asked, phase, quiet=quiet, as_json=as_json)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="Such as examples/tiny/llava.yaml.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Folder of the run, default RECIPE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in DIR.")] = False,
    until: Annotated[
        str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")
    ] = None,
    device: Device = "auto",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the files.")] = False,
    debug: Debug = False,
) -> None:
    """Train a tiny model as a recipe says."""
    with guard(debug=debug) as phase:
        from .commands.train import train as train_it

        train_it(recipe, out, phase, resume=resume, until=until, device=device, quiet=quiet)


@app.command()
def nodes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show this node.")] = None,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """List the nodes, or show inputs, settings and outputs of one."""
    with guard(debug=debug):
        from .commands import look

        look.load_plugins(plugin or ())
        look.list_nodes() if name is None else look.show_node(name)


@app.command()
def graphs(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this graph: parameters, stages.")
    ] = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print its file, to be saved and changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """List the built-in graphs, or show one."""
    with guard(debug=debug, as_json=as_json):
        from .commands import graphs as command
        from .commands import look

        look.load_plugins(plugin or ())
        if yaml:
            command.print_yaml(command.named(name, as_json=as_json))
        elif name is None:
            command.list_graphs(as_json=as_json)
        else:
            command.show_graph(name, as_json=as_json)


@app.command()
def draw(
    graph: GraphName,
    output: Output,
    models: Annotated[
        bool, typer.Option("--models/--no-models", help="Without the wires of models it fits a paper.")
    ] = True,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Draw a graph as .svg, or as mermaid text in .mmd or .md."""
    with guard(debug=debug):
        from .commands import look

        look.load_plugins(plugin or ())
        look.draw(graph, output, models=models)


@app.command()
def diff(
    old: Annotated[
        str, typer.Argument(metavar="A", help="Graph file, built-in graph, or a PNG or result file.")
    ],
    new: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Draw it: .svg or .html.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Say what sets two graphs apart: nodes, settings, wires, parameters.

    tokenloom diff llava15 visionzip. Exit codes: 0 the same, 1 different, 2 trouble.
    """
    with guard(debug=debug, as_json=as_json, failed=2):
        from .commands.diff import compare

        if not compare(old, new, output=output, as_json_text=as_json, plugins=plugin or ()):
            raise typer.Exit(1)


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: print it.")
    ] = None,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Print the JSON Schema of graph files, for completion in editors."""
    with guard(debug=debug):
        from .commands import look

        look.load_plugins(plugin or ())
        look.schema(output)


@app.command()
def inspect(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder, bundled checkpoint, or hub id.")
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="NAME", help="Branch, tag or commit of a hub id.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    debug: Debug = False,
) -> None:
    """List the tensors of a checkpoint, and what no name map covers."""
    with guard(debug=debug, as_json=as_json):
        from .commands.inspect import inspect as look_into

        look_into(checkpoint, revision, as_json=as_json)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Folder, .bin or .pth file, or hub id.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="New folder.")],
    max_shard: Annotated[
        int | None, typer.Option("--max-shard", metavar="BYTES", min=1, help="Largest file to write.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write pickled weights (.bin, .pth) safely as safetensors."""
    with guard(debug=debug) as phase:
        from .commands import keep

        phase.running = True
        keep.convert(source, target, max_shard)


@app.command()
def doctor(
    checkpoints: Annotated[
        list[str] | None, typer.Argument(metavar="CHECKPOINT", help="Look at these instead.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Say what is installed and broken, or what a checkpoint is."""
    with guard(debug=debug):
        from .commands.doctor import doctor as examine

        if not examine(checkpoints or ()):
            raise typer.Exit(1)


@bench_app.command("accuracy")
def bench_accuracy(
    methods: Annotated[
        str, typer.Option("--methods", metavar="NAMES", help="Such as visionzip,random; all: what fits.")
    ] = "all",
    budgets: Annotated[
        str, typer.Option("--budgets", metavar="PARTS", help="Parts of the visual tokens that stay.")
    ] = ".5,.25,.1",
    images: Annotated[
        bool | None, typer.Option("--images/--no-images", help="Pictures; alone: no clips.")
    ] = None,
    clips: Annotated[
        bool | None, typer.Option("--clips/--no-clips", help="Clips; alone: no pictures.")
    ] = None,
    number: Annotated[int, typer.Option("--n", metavar="N", help="Questions of each, at least.")] = 500,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed, other scenes.")] = 0,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="test, validation, or pairs (never trained).")
    ] = "test",
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="Frames of a clip.")] = 8,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", metavar="NAME", help="Bundled name, folder, or hub id.")
    ] = "tiny-llava",
    rule: Annotated[
        str, typer.Option("--rule", metavar="RULE", help="exact, or option: named within a longer answer.")
    ] = "exact",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Rows, table, plot; default accuracy-CHECKPOINT."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes.")] = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the files.")] = False,
    debug: Debug = False,
) -> None:
    """Compare methods with controls of the same budget on coloured shapes.

    tokenloom bench accuracy --methods visionzip,random,uniform --budgets .25 --images
    """
    with guard(debug=debug, as_json=as_json) as phase:
        from .commands.bench import Words, accuracy

        words = Words(
            checkpoint=checkpoint,
            methods=methods,
            budgets=budgets,
            images=images,
            clips=clips,
            number=number,
            seed=seed,
            split=split,
            frames=frames,
            rule=rule,
            device=device,
            dtype=dtype,
            output=output,
            jobs=jobs,
        )
        accuracy(words, phase, quiet=quiet, as_json=as_json)


@cache_app.command("ls")
def cache_ls(debug: Debug = False) -> None:
    """List the values on disk, last used first."""
    with guard(debug=debug):
        from .commands import keep

        keep.cache_ls()


@cache_app.command("rm")
def cache_rm(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="KEY|NODE", help="A key may be cut short.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
    debug: Debug = False,
) -> None:
    """Remove values by key or node."""
    with guard(debug=debug):
        from .commands import keep

        keep.cache_rm(names or (), everything)


@cache_app.command("explain")
def cache_explain(
    name: Annotated[str, typer.Argument(metavar="KEY|NODE", help="A key may be cut short.")],
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="All that it was made of.")] = False,
    debug: Debug = False,
) -> None:
    """Say why a value was made again: what changed."""
    with guard(debug=debug):
        from .commands import keep

        keep.cache_explain(name, verbose)


@shapes_app.command("make")
def shapes_make(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="train, validation, test or pairs.")
    ] = "test",
    number: Annotated[int, typer.Option("--n", metavar="N", help="How many scenes.")] = 400,
    clips: Annotated[bool, typer.Option("--clips", help="Clips (MP4) instead of pictures (PNG).")] = False,
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="Frames of a clip.")] = 8,
    fps: Annotated[float, typer.Option("--fps", metavar="RATE", help="Frames of a clip per second.")] = 4.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed, other scenes.")] = 0,
    questions: Annotated[
        int | None,
        typer.Option("--questions", metavar="N", help="Per scene, at most; default: one of each kind."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that this command wrote.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Write pictures or clips with questions: tokenloom shapes make DIR --n 400."""
    with guard(debug=debug) as phase:
        from .commands.shapes import make
        from .shapes.items import Settings
        from .shapes.scene import known_split

        settings = Settings(
            split=known_split(split),
            number=number,
            seed=seed,
            frames=frames if clips else None,
            questions=questions,
            fps=fps,
        )
        make(folder, settings, phase, force=force, quiet=quiet)


@shapes_app.command("describe")
def shapes_describe(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A written folder; default: a split.")
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="train, validation, test or pairs.")
    ] = "test",
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="Frames of a clip.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    debug: Debug = False,
) -> None:
    """List kinds of question, their answers and baselines."""
    with guard(debug=debug, as_json=as_json):
        from .commands.shapes import describe

        describe(folder, split, frames, as_json=as_json)


@shapes_app.command("score")
def shapes_score(
    questions: Annotated[Path, typer.Argument(metavar="DIR", help="Folder, or its questions.jsonl.")],
    answers: Annotated[
        Path, typer.Argument(metavar="ANSWERS.jsonl", help="Objects of id and answer, or rows of a sweep.")
    ],
    rule: Annotated[
        str, typer.Option("--rule", metavar="NAME", help="exact, or option: sentences that name just one.")
    ] = "exact",
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what is not answered.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    debug: Debug = False,
) -> None:
    """Count right answers per kind, with 95 % intervals."""
    with guard(debug=debug, as_json=as_json):
        from .commands.shapes import show_score

        show_score(questions, answers, rule=rule, partial=partial, as_json=as_json)


def main() -> None:
    """The console script `tokenloom`."""
    try:
        app(prog_name="tokenloom")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
