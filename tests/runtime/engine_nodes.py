"""Small nodes that the engine's tests plan and run; `CALLS` lists the runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, NamedTuple

import torch

from tokenloom.runtime import context
from tokenloom.runtime.needs import Needs
from tokenloom.runtime.node import node
from tokenloom.runtime.values import Source, Tile, Tokens
from tokenloom.runtime.widgets import Range

CALLS: list[str] = []


class Halves(NamedTuple):
    kept: Tokens
    rest: Tokens


@node
def eng_number(*, start: int = 0) -> int:
    """A number."""
    CALLS.append(f"number {start}")
    return start


@node
def eng_add(x: int, *, add: int = 1) -> int:
    """A number plus another."""
    CALLS.append(f"add {add}")
    return x + add


@node
def eng_sum(*xs: int) -> int:
    """The sum of numbers."""
    CALLS.append("sum")
    return sum(xs)


@node
def eng_maybe(x: int, y: int | None = None) -> str:
    """Both inputs as text."""
    return f"{x} {y}"


@node
def eng_text(x: int) -> str:
    """A number as text."""
    return str(x)


@node
def eng_read(*, path: Path) -> str:
    """The text of a file."""
    CALLS.append("read")
    return path.read_text()


@node(pure=False)
def eng_clock() -> float:
    """The time."""
    CALLS.append("clock")
    return time.perf_counter()


@node
def eng_same(x: float) -> float:
    """What came in."""
    CALLS.append("same")
    return x


@node
def eng_break(x: int, *, bad: bool = True) -> int:
    """Raises while `bad`."""
    CALLS.append("break")
    if bad:
        raise ZeroDivisionError("the bottom is nought")
    return x


@node
def eng_lies(x: int) -> str:
    """Returns something else than it says."""
    return x  # type: ignore[return-value]


def tokens(count: int = 4, width: int = 3) -> Tokens:
    """`count` patches in one row."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 1.0, 1.0)),), 1, count)
    return Tokens.of_patches(source, torch.arange(float(count * width)).reshape(count, width))


@node(provides=("keys", "cls_attention"))
def eng_encode(*, count: int = 4) -> Tokens:
    """Tokens with what is wanted of them."""
    CALLS.append("encode")
    asked = sorted(need.key for need in context.wanted() or ())
    return tokens(count).with_side(**{key: torch.ones(count) for key in asked})


@node(provides=("keys",), adds_to=("keys",))
def eng_encode_more(tokens: Tokens | None = None) -> Tokens:
    """Tokens with what is wanted, as long as those before carry it too."""
    CALLS.append("encode more")
    return eng_encode() if tokens is None else tokens


@node
def eng_halve(tokens: Tokens, *, keep: Annotated[int, Range(1)] = 2) -> Halves:
    """The first tokens, and the others."""
    CALLS.append(f"halve {keep}")
    index = torch.arange(len(tokens))
    return Halves(tokens.select(index[:keep]), tokens.select(index[keep:]))


@node
def eng_use_keys(rest: Annotated[Tokens, Needs("keys")]) -> list[str]:
    """The side channels that arrived."""
    return sorted(rest.side)


@node
def eng_use_rollout(rest: Annotated[Tokens, Needs("rollout")]) -> int:
    """Asks for what nobody provides."""
    return len(rest)


@node
def eng_count(tokens: Tokens) -> int:
    """How many tokens there are."""
    CALLS.append("count")
    return len(tokens)
