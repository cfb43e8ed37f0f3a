"""`run` and `execute`: a graph, or a plan of one, to its results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from .cache import Cache, default_cache
from .dispatch import Dispatcher
from .events import Bus, Subscriber
from .plan import Plan, plan
from .result import Result

if TYPE_CHECKING:
    from .graph import Graph


def run(
    graph: Graph | Path | str,
    /,
    *,
    outputs: Collection[str] | None = None,
    until: str | None = None,
    from_: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    cache: Cache | bool = True,
    subscribers: Iterable[Subscriber] = (),
    cancel: Callable[[], bool] | Flag | None = None,
    **params: Any,
) -> Result:
    """Plan and run a graph, a graph file or a bundled graph by name; `params` are the graph's parameters.

    cache: True for the default one, False for none. The rest as in `plan` and `execute`, which also take
    parameters that are called like one of these options.
    """
    if isinstance(graph, str | Path):
        from .yamlfile import load

        graph = load(graph)
    held = default_cache() if cache is True else None if cache is False else cache
    made = plan(
        graph,
        params,
        outputs=outputs,
        until=until,
        from_=from_,
        device=device,
        dtype=dtype,
        cache=held,
    )
    return execute(made, subscribers=subscribers, cancel=cancel)


def execute(
    plan: Plan,
    *,
    subscribers: Iterable[Subscriber] = (),
    cancel: Callable[[], bool] | Flag | None = None,
) -> Result:
    """Run a plan. cancel: asked between nodes and, by nodes that report progress, within them.

    Errors: Cancelled when told to stop; whatever a node raises, with notes that say which node of which file
    it was, what went in, and the command that resumes. What was done until then stays in the cache.
    """
    stop = cancel.is_set if isinstance(cancel, Flag) else cancel
    return Dispatcher(plan, Bus(subscribers), stop).run()
