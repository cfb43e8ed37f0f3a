"""`tokenloom.compare`: several graphs on one question, from Python; the command does the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import Cache, default_cache
from ..errors import CompareError
from ..events import Subscriber
from ..sweep.problems import Problems
from .comparison import Comparison
from .field import Ask, players
from .fitting import fitting
from .race import race
from .spec import Named

if TYPE_CHECKING:
    from ..graph import Graph


def compare(
    graphs: Sequence[Named] = (),
    *,
    base: Graph | Path | str | bool = True,
    repeat: int = 1,
    device: str = "auto",
    dtype: str = "auto",
    cache: Cache | bool = True,
    subscribers: Iterable[Subscriber] = (),
    cancel: Callable[[], bool] | None = None,
    **inputs: Any,
) -> Comparison:
    """Run graphs on the same question about the same picture or clip, shared stages once, and compare them.

    graphs: names, files or Graphs; with values of their own as `"visionzip:keep=16"` or
    `("visionzip", {"keep": 16})`. None: the bundled methods that fit what is given. base: the uncompressed
    graph; True: what each extends; False: none. repeat: measure so many times, without the cache, and take
    medians. inputs: parameters, for all graphs that have them.
    Errors: CompareError, before any work, with everything that is wrong. A graph that fails later does not
    raise: its column holds the `error`.
    """
    return compared(
        graphs, inputs, base=base, repeat=repeat, device=device, dtype=dtype, cache=cache,
        subscribers=subscribers, cancel=cancel,
    )  # fmt: skip


def compared(
    graphs: Sequence[Named],
    inputs: Mapping[str, Any],
    *,
    base: Graph | Path | str | bool = True,
    repeat: int = 1,
    device: str = "auto",
    dtype: str = "auto",
    cache: Cache | bool = True,
    subscribers: Iterable[Subscriber] = (),
    cancel: Callable[[], bool] | None = None,
    begin: Callable[[], None] = lambda: None,
    problems: Problems | None = None,
) -> Comparison:
    """The same, with inputs that may be called like an option. begin: called when all is checked."""
    problems = problems or Problems(CompareError)
    notes: tuple[str, ...] = ()
    if repeat < 1:
        problems.say(f"repeat: {repeat}, wanted 1 or more")
    if not graphs:
        graphs, notes = fitting(inputs, device, dtype, problems)
        problems.stop()
    own = base if not isinstance(base, bool) else None
    ask = Ask(graphs=graphs, inputs=inputs, base=own, with_base=base is not False, device=device, dtype=dtype)
    found = players(ask, problems)
    begin()
    held = default_cache() if cache is True else None if cache is False else cache
    return race(
        found, repeat=repeat, cache=None if repeat > 1 else held, subscribers=subscribers, cancel=cancel,
        notes=notes,
    )  # fmt: skip
