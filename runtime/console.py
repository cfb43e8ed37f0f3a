"""The console subscriber: a progress line with the time left, then one line per stage with its tokens."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from .cost import flops_text
from .events import Event, NodeCached, NodeDone, NodeFailed, NodeProgress, NodeStarted, RunDone, RunStarted


class Console:
    """Writes to `file` (default stderr), and nothing at all when that is no terminal or `quiet` is set.

    verbose: the settings of events too: bytes and peak memory of every node.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, file: TextIO | None = None) -> None:
        self._file = sys.stderr if file is None else file
        self._silent = quiet or not self._file.isatty()
        self._verbose = verbose
        self._steps = self._done = 0
        self._begin = self._node_begin = 0.0
        self._live: Any = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._silent:
            return
        if isinstance(event, RunStarted):
            self._open(event)
        elif isinstance(event, NodeStarted):
            self._node_begin = time.monotonic()
            self._show(event.node)
        elif isinstance(event, NodeProgress):
            of = "" if event.total is None else f"/{event.total}"
            left = _left(time.monotonic() - self._node_begin, event.done, event.total)
            self._show(f"{event.node} {event.done}{of} {event.text}{left}".rstrip())
        elif isinstance(event, NodeCached):
            self._line(event.node, f"cached ({event.tier})", None, event.tokens_out)
        elif isinstance(event, NodeDone):
            self._done += 1
            text = f"{event.seconds:.3f} s"
            if event.flops is not None:
                text += f"  {flops_text(event.flops)}FLOP"
            if self._verbose:
                text += f"  {event.bytes:,} bytes, peak +{event.peak:,}"
            self._line(event.node, text, event.tokens_in, event.tokens_out)
        elif isinstance(event, NodeFailed):
            self._print(f"[red]✗[/] {_plain(event.node)}  {_plain(event.error)}: {_plain(event.message)}")
        elif isinstance(event, RunDone):
            self._close(event)

    def _open(self, event: RunStarted) -> None:
        from rich.console import Console as Rich
        from rich.status import Status

        self._steps, self._done, self._begin = event.run, 0, time.monotonic()
        rich = Rich(file=self._file)
        self._live = Status("", console=rich)
        self._live.start()

    def _show(self, text: str) -> None:
        if self._live is not None:
            left = _left(time.monotonic() - self._begin, self._done, self._steps)
            self._live.update(f"{self._done}/{self._steps} {_plain(text)}{left if '(' not in text else ''}")

    def _line(self, node: str, text: str, tokens_in: int | None, tokens_out: Mapping[str, int]) -> None:
        mark = "[cyan]=[/]" if text.startswith("cached") else "[green]✓[/]"
        out = ", ".join(f"{name} {count}".strip() for name, count in tokens_out.items())
        tokens = (
            f"{tokens_in} -> {out} tokens"
            if tokens_in is not None and out
            else f"{out} tokens"
            if out
            else ""
        )
        self._print(f"{mark} {_plain(node):<24} {_plain(tokens):<32} {_plain(text)}".rstrip())

    def _print(self, markup: str) -> None:
        if self._live is not None:
            self._live.console.print(markup, highlight=False, soft_wrap=True)

    def _close(self, event: RunDone) -> None:
        if self._live is not None:
            self._live.stop()
            word = "done" if event.ok else "stopped"
            self._print(f"{word} in {event.seconds:.2f} s, {self._done} of {self._steps} nodes run")
            self._live = None


def _left(seconds: float, done: int, total: int | None) -> str:
    """` (12 s left)`, once something is done; from the mean of what is done."""
    if not done or not total or done >= total:
        return ""
    return f" ({seconds / done * (total - done):.0f} s left)"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
