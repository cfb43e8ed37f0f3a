"""Loading models is nobody's work: it is reported beside the step that happened to need the weights first."""

from __future__ import annotations

import time

from tokenloom import Graph, node, run
from tokenloom.runtime.events import Event, NodeDone
from tokenloom.runtime.models.handle import Model, ModelFacts
from tokenloom.runtime.models.pool import loader, pool


class Slow:
    """A model that takes its time to load."""


@loader("slow test model")
def load_slow(handle: Model[Slow]) -> Slow:
    time.sleep(0.2)
    return Slow()


@node(version=1)
def loading_handle() -> Model[Slow]:
    """A handle, weights unread."""
    return Model(
        kind=Slow,
        loader="slow test model",
        folder="",
        fingerprint="slow",
        dtype="float32",
        device="cpu",
        facts=ModelFacts(name="slow"),
    )


@node(version=1)
def loading_use(model: Model[Slow]) -> str:
    """Needs the weights."""
    return type(model.load()).__name__


def test_loading_is_not_a_steps_own_time() -> None:
    """The first user has it in `loading`; the second has none."""
    with Graph() as g:
        model = loading_handle()
        g.output(first=loading_use(model), second=g.named("again", loading_use)(model))
    pool().release()
    events: list[Event] = []
    result = run(g, cache=False, subscribers=[events.append])
    rows = {row.id: row for row in result.report}
    assert rows["loading_use"].loading >= 0.2 > rows["loading_use"].seconds
    assert rows["again"].loading == 0
    done = {event.node: event.loading for event in events if isinstance(event, NodeDone)}
    assert done == {id: row.loading for id, row in rows.items()}
