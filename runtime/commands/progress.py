"""How far many runs are: one line on a terminal that is written over; elsewhere one every ten seconds."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import typer


@dataclass
class Progress:
    """Counts what is done. done: how many were there before; what: what they are."""

    total: int
    done: int
    silent: bool = False
    what: str = "rows"
    fresh: int = 0
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def take(self, one: object) -> None:
        """One more is done; says how long the rest may take."""
        self.done, self.fresh = self.done + 1, self.fresh + 1
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if self.silent or now - self.told < (0.2 if terminal else 10):
            return
        self.told = now
        text = self.text(now)
        typer.echo(f"\r{text}\x1b[K" if terminal else text, nl=not terminal, err=True)

    def text(self, now: float) -> str:
        """What is told; now: as `time.monotonic` has it."""
        left = (now - self.began) / self.fresh * (self.total - self.done)
        return f"{self.done} of {self.total} {self.what}, about {duration(left)} left"

    def close(self) -> None:
        """Leave the line."""
        if not self.silent and sys.stderr.isatty():
            typer.echo("\r\x1b[K", nl=False, err=True)


def duration(seconds: float) -> str:
    """`12 s`, `3 min 05 s`, `2 h 07 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
