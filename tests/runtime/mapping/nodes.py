"""Small nodes that maps run over, and a graph of them."""

from __future__ import annotations

import errno
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenloom import Graph
from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.node import node
from tokenloom.runtime.values import Picture
from tokenloom.runtime.widgets import Range

CALLS: Counter[str] = Counter()


@node
def map_say(*, text: str = "hello", times: int = 1) -> str:
    """A text, several times."""
    CALLS[text] += 1
    return text * times


@node
def map_check(text: str) -> str:
    """The same text; some texts raise."""
    if text == "raise":
        raise ZeroDivisionError("the bottom is nought")
    if text == "exit":
        sys.exit(3)
    if text == "stop":
        raise KeyboardInterrupt
    if text == "lost":
        raise torch.AcceleratorError("device-side assert triggered")
    if text.startswith("flaky") and CALLS[text] < int(text.removeprefix("flaky")):
        raise MediaError("cat.jpg: cannot be read") from OSError(errno.EIO, "Input/output error")
    return text


@node
def map_picture(text: str) -> Picture:
    """As many pixels as the text has letters."""
    return Picture(torch.zeros(len(text), 2, 3, dtype=torch.uint8), caption=text)


@node
def map_large(text: str, *, megabytes: int = 1) -> Tensor:
    """A large tensor, different for each text."""
    return torch.full((megabytes << 20,), hash(text) % 100, dtype=torch.uint8)


@node
def map_size(value: Tensor, text: str) -> str:
    """How large it is."""
    return f"{text} {len(value)}"


@node
def map_read(*, path: Path) -> str:
    """The text of a file."""
    return path.read_text()


def toy() -> Graph:
    """`text` comes from the items; the answer repeats it."""
    with Graph("toy") as g:
        text, times = g.param("text", str), g.param("times", int, default=2, bounds=Range(0))
        said = g.named("said", map_say)(text=text, times=times)
        g.output(answer=g.named("checked", map_check)(g.named("said_once", map_say)(text=text)), said=said)
    return g


def items(*texts: str) -> list[dict[str, Any]]:
    """One item for each text."""
    return [{"text": text} for text in texts]
