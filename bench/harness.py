"""Benchmarks that print ratios measured side by side: alternate in one process, repeat in fresh processes.

A benchmark file declares cases and hands them to `main`:

    def sides() -> harness.Sides:  # runs in the fresh process: imports, inputs, warm-up go here
        return {"plain": lambda: tower(x), "ours": lambda: ours(x)}

    if __name__ == "__main__":
        harness.main(__file__, [harness.Case("batch 1", sides, base="plain", target={"ours": 1.03})])

`python bench/NAME.py --json FILE` then runs every case in `--processes` fresh processes. Inside one process
the sides take turns (a b c, c b a, ...), so that drift hits all of them alike; the figure of a process is
the median over its repeats, in CPU seconds of all its threads (`time.process_time`), with `--clock wall` in
wall seconds, with `--clock family` in CPU seconds with those of its living child processes (Linux), with
`--clock cuda` in seconds between two CUDA events. The table shows the median over
processes with its range, and the ratio to the base, formed within each process; a ratio whose range holds 1
is called equal. `measure="peak"` runs each side alone in a process of its own and compares how far its
resident memory rises (MB); with `--clock cuda`, the memory that torch allocates on the device. `per` divides
the figures (work items of one call), `scale` and `unit` say how they are printed.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

Sides = Mapping[str, Callable[[], object]]
Samples = dict[str, list[float]]
MARK = "HARNESS "  # begins the one line by which a worker answers


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median with its range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def text(self, digits: int = 3) -> str:
        return f"{_short(self.median, digits)} [{_short(self.low, digits)}-{_short(self.high, digits)}]"

    @property
    def equal(self) -> bool:
        """For a ratio: the two sides cannot be told apart."""
        return self.low <= 1.0 <= self.high


@dataclass(frozen=True)
class Case:
    """Sides to compare. target: what a ratio should not exceed, by side (to the base) or `side/other`.

    most: what a figure itself should not exceed, by side, in `unit`; for a limit that was measured elsewhere.
    warm: untimed calls of every side before the first turn (on CUDA at least 3); 0 where `sides` warms up.
    """

    name: str
    sides: Callable[[], Sides]
    base: str
    measure: Literal["time", "peak"] = "time"
    repeats: int = 7
    warm: int = 1
    per: float = 1.0
    unit: str = "s"
    scale: float = 1.0  # figures are multiplied by it: 1e6 for us
    target: Mapping[str, float] = field(default_factory=dict[str, float])
    most: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Outcome:
    """One case: figures and ratios of every side."""

    case: Case
    figures: dict[str, Spread]
    ratios: dict[str, Spread]

    def verdict(self, side: str) -> str:
        if side in self.case.most:
            most = self.case.most[side]
            word = "reached" if self.figures[side].median <= most else "MISSED"
            return f"{word} (<= {most:g} {self.case.unit})"
        if side not in self.case.target:
            return ""
        limit = self.case.target[side]
        ratio = self.ratios[side]
        reached = ratio.median <= limit or (limit >= 1.0 and ratio.equal)
        return f"{'reached' if reached else 'MISSED'} (<= {limit:g})"


def alternate(
    sides: Sides, repeats: int = 7, clock: Callable[[], float] | None = time.process_time, warm: int = 1
) -> Samples:
    """`repeats` timings of every side in turns, after `warm` untimed calls; clock None: CUDA events."""
    for _ in range(warm):
        for run in sides.values():
            run()
    samples: Samples = {name: [] for name in sides}
    for turn in range(repeats):
        names = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for name in names:
            gc.collect()
            samples[name].append(_on_device(sides[name]) if clock is None else _seconds(sides[name], clock))
    return samples


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    begin = clock()
    run()
    return clock() - begin


def _on_device(run: Callable[[], object]) -> float:
    """Seconds between two CUDA events around one call."""
    import torch

    event: Any = torch.cuda.Event  # torch does not type it
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def family_time() -> float:
    """CPU seconds of this process, of the children that have ended, and of those that live."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() + ended.ru_utime + ended.ru_stime
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            spent += time.clock_gettime(~int(child) << 3 | 2)  # its CPU clock, clock_getcpuclockid(3)
    return spent


def peak(run: Callable[[], object]) -> float:
    """MB by which resident memory rises at most during one call (the first one in this process)."""
    gc.collect()
    before = _resident()
    run()
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before, 0.0)


def device_peak(run: Callable[[], object]) -> float:
    """MB by which the memory that torch allocates on the CUDA device rises at most during one call."""
    import torch

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def fresh(script: str, *args: str) -> Samples:
    """Run `script` in a fresh Python with `args` and return the samples that it printed."""
    done = subprocess.run([sys.executable, script, *args], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise RuntimeError(f"{script} {' '.join(args)} failed:\n{done.stdout}{done.stderr}")
    samples: Samples = json.loads(lines[-1].removeprefix(MARK))
    return samples


def machine() -> dict[str, Any]:
    """Date, device and versions: what a figure means nothing without."""
    packages = ("tokenloom", "torch", "transformers", "numpy", "haystack-ai", "apache-hamilton", "pipefunc")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": _device(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def main(script: str, cases: Sequence[Case], argv: Sequence[str] | None = None) -> list[Outcome]:
    """The command line of a benchmark file: run the cases, print the tables, write `--json`."""
    parser = argparse.ArgumentParser(description=f"{Path(script).stem}: ratios measured in one run")
    parser.add_argument("--json", type=Path, help="write figures, ratios and versions to this file")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes per case")
    parser.add_argument("--repeats", type=int, help="timings of every side per process")
    parser.add_argument("--case", action="append", help="only these cases", choices=[c.name for c in cases])
    parser.add_argument("--clock", choices=("process", "wall", "family", "cuda"), default="process")
    parser.add_argument("--worker", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.worker:
        _work(next(c for c in cases if c.name == asked.worker[0]), asked.worker[1], asked)
        return []
    facts = machine()
    print(f"{Path(script).stem}, {facts['date']}, {facts['device']}, {asked.processes} processes")
    outcomes = []
    for case in cases:
        if not asked.case or case.name in asked.case:
            outcomes.append(_measure(script, case, asked))
            print(table(outcomes[-1]), flush=True)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps({**facts, "cases": [_plain(o) for o in outcomes]}, indent=1) + "\n")
    return outcomes


def table(outcome: Outcome) -> str:
    """Side, figure, ratio to the base, target: as plain text."""
    case = outcome.case
    rows = [("", case.unit, f"/ {case.base}", "target")]
    for side, figure in outcome.figures.items():
        ratio = outcome.ratios[side]
        mark = "" if side == case.base else ratio.text() + (", equal" if ratio.equal else "")
        rows.append((side, figure.text(), mark, outcome.verdict(side)))
    rows += [(pair, "", outcome.ratios[pair].text(), outcome.verdict(pair)) for pair, _, _ in _pairs(case)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([f"\n{case.name}", *(line.rstrip() for line in lines)])


def _pairs(case: Case) -> list[tuple[str, str, str]]:
    """Targets that compare two sides of which none need be the base: the name, and both."""
    parts = [(pair, *pair.partition("/")) for pair in case.target]
    return [(pair, side, other) for pair, side, _, other in parts if other]


def _measure(script: str, case: Case, asked: argparse.Namespace) -> Outcome:
    extra = ["--clock", asked.clock]
    extra += ["--repeats", str(asked.repeats)] if asked.repeats else []
    runs = []
    for _ in range(asked.processes):
        if case.measure == "peak":
            sides = fresh(script, "--worker", case.name, "?", *extra)
            runs.append({n: fresh(script, "--worker", case.name, n, *extra)[n] for n in sides})
        else:
            runs.append(fresh(script, "--worker", case.name, "", *extra))
    medians = [{n: statistics.median(v) * case.scale / case.per for n, v in run.items()} for run in runs]
    names = list(medians[0])
    return Outcome(
        case,
        {n: Spread.of([m[n] for m in medians]) for n in names},
        {n: Spread.of([m[n] / m[case.base] for m in medians]) for n in names}
        | {pair: Spread.of([m[a] / m[b] for m in medians]) for pair, a, b in _pairs(case)},
    )


def _work(case: Case, side: str, asked: argparse.Namespace) -> None:
    """Inside the fresh process: time all sides in turns, or name them (`?`), or one side's peak."""
    sides = case.sides()
    if side == "?":
        samples: Samples = {name: [] for name in sides}
    elif case.measure == "peak":
        samples = {side: [(device_peak if asked.clock == "cuda" else peak)(sides[side])]}
    else:
        clocks = {
            "process": time.process_time,
            "wall": time.perf_counter,
            "family": family_time,
            "cuda": None,
        }
        warm = max(case.warm, 3) if asked.clock == "cuda" else case.warm
        samples = alternate(sides, asked.repeats or case.repeats, clocks[asked.clock], warm)
    print(MARK + json.dumps(samples))


def _plain(outcome: Outcome) -> dict[str, Any]:
    case = outcome.case
    return {
        "name": case.name,
        "measure": case.measure,
        "unit": case.unit,
        "base": case.base,
        "sides": {
            side: {
                "figure": vars(figure),
                "ratio": vars(outcome.ratios[side]),
                "equal": outcome.ratios[side].equal,
                "verdict": outcome.verdict(side),
            }
            for side, figure in outcome.figures.items()
        },
        "pairs": {
            pair: {"ratio": vars(outcome.ratios[pair]), "verdict": outcome.verdict(pair)}
            for pair, _, _ in _pairs(case)
        },
    }


def _short(value: float, digits: int) -> str:
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _device() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [x.split(":", 1)[1].strip() for x in cpuinfo.read_text().splitlines() if "model name" in x]
        name = models[0] if models else name
    try:
        import torch
    except ImportError:
        return name
    return f"{torch.cuda.get_device_name()} + {name}" if torch.cuda.is_available() else name
