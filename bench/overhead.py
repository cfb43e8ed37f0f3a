"""CPU time per no-op node: tokenloom beside haystack-ai, apache-hamilton, pipefunc and a plain loop.

    python bench/overhead.py --json bench/results/overhead.json [--rivals FOLDER]

FOLDER is what `pip install --target FOLDER haystack-ai apache-hamilton pipefunc` made, if they are not
installed beside tokenloom. Integers travel along a chain of n additions, and from a source through n
additions into a sum. cold: nothing cached, and a graph that was never run before. warm: the same run again.
edit: the constant of the addition halfway changed, after a warm run. Engines without a cache compute
everything in all three. Every figure is `time.process_time` in microseconds per node, graph building not
counted; the sides take turns within one process, and the table shows medians over all processes with the
range of the processes' own medians. A rival that needs more than CAP seconds for one turn is stopped and
reported as such.
"""

import argparse
import gc
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SHAPES = ("chain", "fan-out")
SIZES = (100, 10_000)
MODES = ("cold", "warm", "edit")
CAP = 4.0  # seconds for building and running one rival at one size
Run = Callable[[int], int]  # constant halfway -> result
Side = Callable[[str, int], Callable[[], Run]]  # shape, size -> (fresh cache -> run)

# -- the sides ------------------------------------------------------------------------------------------


def plain(shape: str, n: int) -> Callable[[], Run]:
    def run(k: int) -> int:
        if shape == "chain":
            x = 0
            for i in range(n):
                x = x + (k if i == n // 2 else 1)
            return x
        return sum([0 + (k if i == n // 2 else 1) for i in range(n)])

    return lambda: run


@cache
def _nodes() -> tuple[Callable[..., Any], ...]:
    from tokenloom.runtime.node import node

    @node(name="bench_source")
    def source() -> int:
        return 0

    @node(name="bench_add")
    def add(x: int, *, k: int = 1) -> int:
        return x + k

    @node(name="bench_sum")
    def total(*xs: int) -> int:
        return sum(xs)

    return source, add, total


def loom(shape: str, n: int) -> Callable[[], Run]:
    from tokenloom.runtime.cache import Cache
    from tokenloom.runtime.graph import Graph
    from tokenloom.runtime.run import run

    source, add, total = _nodes()

    def fresh() -> Run:  # a new graph too: a cold run finds nothing that an earlier one has planned
        with Graph() as g:
            k = g.param("k", int)
            x = source()
            if shape == "chain":
                for i in range(n):
                    x = add(x, k=k if i == n // 2 else 1)
            else:
                x = total(*[add(x, k=k if i == n // 2 else 1) for i in range(n)])
            g.output(out=x)
        held = Cache(None)
        return lambda k: int(run(g, cache=held, k=k)["out"])

    return fresh


def haystack(shape: str, n: int) -> Callable[[], Run]:
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    from haystack import Pipeline, component  # pyright: ignore[reportMissingImports]
    from haystack.core.component.types import Variadic  # pyright: ignore[reportMissingImports]

    @component
    class Add:
        @component.output_types(value=int)
        def run(self, x: int, k: int = 1) -> dict[str, int]:
            return {"value": x + k}

    @component
    class Sum:
        @component.output_types(value=int)
        def run(self, xs: Variadic[int]) -> dict[str, int]:
            return {"value": sum(xs)}

    pipeline = Pipeline(max_runs_per_component=2)
    pipeline.add_component("source", Add())
    for i in range(n):
        pipeline.add_component(f"n{i}", Add())
        before = "source" if i == 0 or shape == "fan-out" else f"n{i - 1}"
        pipeline.connect(f"{before}.value", f"n{i}.x")
    last = f"n{n - 1}"
    if shape == "fan-out":
        last = "sum"
        pipeline.add_component("sum", Sum())
        for i in range(n):
            pipeline.connect(f"n{i}.value", "sum.xs")

    def run(k: int) -> int:
        data = {"source": {"x": 0, "k": 0}, f"n{n // 2}": {"k": k}}
        return int(pipeline.run(data)[last]["value"])

    return lambda: run


def _functions(shape: str, n: int) -> str:
    lines = ["def source() -> int:", "    return 0"]
    for i in range(n):
        before = "source" if i == 0 or shape == "fan-out" else f"n{i - 1}"
        more, k = (", k: int", "k") if i == n // 2 else ("", "1")
        lines += [f"def n{i}({before}: int{more}) -> int:", f"    return {before} + {k}"]
    if shape == "fan-out":
        args = ", ".join(f"n{i}: int" for i in range(n))
        lines += [f"def total({args}) -> int:", f"    return sum(({', '.join(f'n{i}' for i in range(n))},))"]
    return "\n".join(lines)


def _hamilton(shape: str, n: int, cached: bool) -> Callable[[], Run]:
    import linecache

    from hamilton import driver  # pyright: ignore[reportMissingImports]
    from hamilton.caching.stores.memory import InMemoryMetadataStore, InMemoryResultStore  # pyright: ignore[reportMissingImports]

    text, file = _functions(shape, n), f"<overhead {shape} {n}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)  # it reads the source of functions
    module = types.ModuleType(f"overhead_{shape.replace('-', '_')}_{n}")
    sys.modules[module.__name__] = module
    exec(compile(text, file, "exec"), module.__dict__)
    last = "total" if shape == "fan-out" else f"n{n - 1}"

    def fresh() -> Run:
        builder = driver.Builder().with_modules(module)
        if cached:
            stores = {"metadata_store": InMemoryMetadataStore(), "result_store": InMemoryResultStore()}
            builder = builder.with_cache(path="/tmp/tokenloom_overhead", **stores)
        made = builder.build()
        return lambda k: int(made.execute([last], inputs={"k": k})[last])

    return fresh


def hamilton(shape: str, n: int) -> Callable[[], Run]:
    return _hamilton(shape, n, cached=False)


def hamilton_cached(shape: str, n: int) -> Callable[[], Run]:
    return _hamilton(shape, n, cached=True)


def pipefunc_cached(shape: str, n: int) -> Callable[[], Run]:
    from pipefunc import PipeFunc, Pipeline  # pyright: ignore[reportMissingImports]

    space: dict[str, Any] = {}
    exec(compile(_functions(shape, n), "<overhead>", "exec"), space)
    names = ["source", *(f"n{i}" for i in range(n)), *(["total"] if shape == "fan-out" else [])]

    def fresh() -> Run:
        made = Pipeline([PipeFunc(space[m], m, cache=True) for m in names], cache_type="simple")
        return lambda k: int(made.run(names[-1], kwargs={"k": k}))

    return fresh


SIDES: dict[str, tuple[Side, str]] = {
    "plain loop": (plain, "no graph, no checks, no cache"),
    "tokenloom": (loom, "type checks, cache in memory"),
    "haystack": (haystack, "type checks at connect, no cache"),
    "hamilton": (hamilton, "no cache"),
    "hamilton, cache": (hamilton_cached, "cache in memory"),
    "pipefunc, cache": (pipefunc_cached, "cache in memory"),
}

# -- measuring ------------------------------------------------------------------------------------------


class _TookTooLong(BaseException):
    pass


def _alarm(*_: object) -> None:
    raise _TookTooLong


def _seconds(run: Run, k: int, expected: int) -> float:
    begin = time.process_time()
    got = run(k)
    spent = time.process_time() - begin
    assert got == expected, (got, expected)
    return spent


def _round(fresh: Callable[[], Run], n: int) -> dict[str, float]:
    gc.collect()
    gc.freeze()  # no side pays for walking what the others have left in memory
    try:
        run = fresh()
        return {
            "cold": _seconds(run, 1, n),
            "warm": _seconds(run, 1, n),
            "edit": _seconds(run, 5, n + 4),
        }
    finally:
        gc.unfreeze()


def worker(dead: dict[str, str]) -> None:
    """One process: every side takes its turn in every round; JSON on stdout. dead: what need not be tried."""
    signal.signal(signal.SIGALRM, _alarm)
    out: dict[str, Any] = {key: {"died": why} for key, why in dead.items()}
    for side, _ in SIDES.values():  # imports and what is read once per process are not counted
        with suppress(ImportError):
            side("chain", 3)()(1)
    for shape in SHAPES:
        for n in SIZES:
            made: dict[str, Callable[[], Run]] = {}
            spent: dict[str, float] = {}
            for turn in range(5 if n == 100 else 3):
                for name, (side, _) in SIDES.items():
                    entry = out.setdefault(f"{name}/{shape}/{n}", {"us": {m: [] for m in MODES}})
                    if "died" in entry or (turn and spent[name] > 2):  # a slow one takes one turn
                        continue
                    begin = time.monotonic()
                    try:
                        signal.setitimer(signal.ITIMER_REAL, CAP)
                        if name not in made:
                            made[name] = side(shape, n)
                        for mode, seconds in _round(made[name], n).items():
                            entry["us"][mode].append(seconds / n * 1e6)
                    except _TookTooLong:
                        entry["died"] = f"more than {CAP:.0f} s, capped"
                    except ImportError as error:
                        entry["died"] = f"not installed ({error.name})"
                    except Exception as error:
                        entry["died"] = type(error).__name__
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    spent[name] = time.monotonic() - begin
    print(json.dumps(out))


def _place(key: str) -> tuple[int, int, int]:
    name, shape, n = key.split("/")
    return SHAPES.index(shape), int(n), list(SIDES).index(name)


def gather(processes: int, rivals: str | None) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    dead: dict[str, str] = {}  # a rival that could not do it in the first process is not tried again
    for i in range(processes):
        print(f"process {i + 1} of {processes} ...", file=sys.stderr, flush=True)
        command = [
            sys.executable,
            __file__,
            "--worker",
            json.dumps(dead),
            *(["--rivals", rivals] if rivals else []),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
        dead = {key: entry["died"] for key, entry in runs[-1].items() if "died" in entry}
    out: dict[str, Any] = {}
    for key in sorted(runs[0], key=_place):
        died = sorted({run[key]["died"] for run in runs if "died" in run[key]})
        if died:
            out[key] = {"died": ", ".join(died)}
            continue
        out[key] = {}
        for mode in MODES:
            medians = [statistics.median(run[key]["us"][mode]) for run in runs]
            every = [us for run in runs for us in run[key]["us"][mode]]
            out[key][mode] = {
                "median": round(statistics.median(every), 2),
                "range": [round(min(medians), 2), round(max(medians), 2)],
                "samples": len(every),
            }
    return out


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for name in ("torch", "haystack-ai", "apache-hamilton", "pipefunc"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def ratios(measured: dict[str, Any]) -> dict[str, Any]:
    """How many times tokenloom's cost each rival's is, and tokenloom's own at 10,000 nodes over 100."""
    out: dict[str, Any] = {}
    for key, entry in measured.items():
        name, shape, n = key.split("/")
        ours = measured[f"tokenloom/{shape}/{n}"]
        if name not in ("tokenloom", "plain loop") and "died" not in entry:
            out[key] = {m: round(entry[m]["median"] / ours[m]["median"], 1) for m in MODES}
    for shape in SHAPES:
        small, large = (measured[f"tokenloom/{shape}/{n}"] for n in SIZES)
        out[f"tokenloom/{shape}/depth"] = {
            m: round(large[m]["median"] / small[m]["median"], 2) for m in MODES
        }
    return out


def table(measured: dict[str, Any]) -> str:
    lines = [f"{'engine':<18}{'shape':<9}{'nodes':>6}" + "".join(f"{m + ' us/node':>28}" for m in MODES)]
    for key, entry in measured.items():
        name, shape, n = key.split("/")
        cells = "".join(
            f"{entry[m]['median']:>12.1f} [{entry[m]['range'][0]:.1f}-{entry[m]['range'][1]:.1f}]".rjust(28)
            for m in MODES
            if "died" not in entry
        )
        lines.append(f"{name:<18}{shape:<9}{n:>6}" + (cells or f"   {entry.get('died')}"))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="write figures, ratios and versions to this file")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--rivals", help="folder with the rival engines, put last on sys.path")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rivals:
        sys.path.append(args.rivals)
    if args.worker is not None:
        worker(json.loads(args.worker))
        return
    measured = gather(args.processes, args.rivals)
    report = {
        "what": "CPU microseconds per no-op node",
        "versions": versions(),
        "sides": {name: told for name, (_, told) in SIDES.items()},
        "measured": measured,
        "ratios": ratios(measured),
    }
    print(table(measured))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
