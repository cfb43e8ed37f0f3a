"""What a run says of itself: a line of JSON and a line on the console every few steps, with the time left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from .checkpoints import writing

CURVE_POINTS = 60


class Journal:
    """`log.jsonl` of a run, and its console. quiet: the file alone."""

    def __init__(self, folder: Path, *, quiet: bool = False, file: TextIO | None = None) -> None:
        self.path = folder / "log.jsonl"
        self._file = None if quiet else (sys.stderr if file is None else file)
        self._bar: Any = None
        self._task: Any = None

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add an entry. Errors: TrainingError when it cannot be written."""
        with (
            writing(str(self.path), "checkpoints are as they were"),
            self.path.open("a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(entry) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All entries; a last line that was cut off is left out."""
        if not self.path.exists():
            return []
        found: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def keep(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Drop the entries of steps that will be made again."""
        from ..files import write_whole

        lines = [json.dumps(entry) + "\n" for entry in self.read() if wanted(entry)]
        with writing(str(self.path), "checkpoints are as they were"):
            write_whole(self.path, "".join(lines).encode())

    def curve(self, stage: str) -> list[dict[str, Any]]:
        """The entries of a stage, thinned out to at most CURVE_POINTS, the last one among them."""
        entries = [entry for entry in self.read() if entry.get("stage") == stage and "losses" in entry]
        every = -(-len(entries) // CURVE_POINTS) or 1
        kept = entries[::-1][::every][::-1]
        return [{name: entry[name] for name in ("step", "losses", "right", "seconds")} for entry in kept]

    def say(self, text: str) -> None:
        """A line on the console."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        elif self._file is not None:
            print(text, file=self._file, flush=True)

    @contextmanager
    def progress(self, stage: str, steps: int, done: int) -> Iterator[None]:
        """A bar with the time left, on a terminal."""
        if self._file is None or not self._file.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=self._file), transient=True) as bar:
            self._bar, self._task = bar, bar.add_task(stage, total=steps, completed=done)
            try:
                yield
            finally:
                self._bar = self._task = None

    def advance(self, step: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)


def line(entry: Mapping[str, Any], left: float | None) -> str:
    """An entry as it stands on the console: means over pictures and clips of any length. left: seconds."""
    losses = "  ".join(f"{name} {value:.3f}" for name, value in pooled(entry["losses"]).items())
    right = "  ".join(f"{kind} {value:.0f}" for kind, value in pooled(entry["right"]).items())
    time = "" if left is None else f"  {clock(left)} left"
    told = f"{entry['stage']} {entry['step']}/{entry['of']}{time}  {losses}"
    return f"{told}\n    right tokens, %: {right}" if right else told


def pooled(values: Mapping[str, float]) -> dict[str, float]:
    """Means of `lm`, `lm@4`, `lm@8` ... by what they are of."""
    found: dict[str, list[float]] = {}
    for name, value in values.items():
        found.setdefault(name.partition("@")[0], []).append(value)
    return {name: sum(several) / len(several) for name, several in found.items()}


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(shares: Mapping[str, float]) -> str:
    """Shares by name in one line."""
    return ", ".join(f"{name} {value:g}" for name, value in shares.items())
