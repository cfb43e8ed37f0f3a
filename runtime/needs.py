"""Side channels by demand: what a socket asks of whoever computes its tokens.

`Needs` is the annotation on a socket, `Need` the one concrete wish that the planner carries upstream. A node
that computes channels (`encode_vision`, `prefill`) reads its wishes from `runtime.context.wanted()`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, get_args, get_origin


@dataclass(frozen=True, order=True)
class Need:
    """One wish: a channel, at one layer (None: the layer of the features), for some rows (None: all)."""

    channel: str
    layer: int | None = None
    rows: str | None = None

    @property
    def key(self) -> str:
        """The name under which the channel lies in `side`: `keys`, `hidden@12`, `attention@2:text`."""
        at = "" if self.layer is None else f"@{self.layer}"
        return f"{self.channel}{at}" + ("" if self.rows is None else f":{self.rows}")


@dataclass(frozen=True)
class Needs:
    """`Annotated[Tokens, Needs("cls_attention")]`: the socket's tokens must carry that side channel.

    `layer`, `layers` and `rows` may be the name of a widget of the same node (`layers="levels"`); `when`
    limits the wish to some widget values (`when={"score": "cls"}`).
    """

    channel: str
    layer: int | str | None = None
    layers: tuple[int, ...] | str = ()
    rows: str | None = None
    when: Mapping[str, object] = field(default_factory=dict[str, object], hash=False)

    def resolve(self, widgets: Mapping[str, Any]) -> tuple[Need, ...]:
        """The wishes that hold for these widget values."""
        if any(widgets.get(name) != value for name, value in self.when.items()):
            return ()
        layers = widgets[self.layers] if isinstance(self.layers, str) else self.layers
        if layers or isinstance(self.layers, str):
            return tuple(Need(self.channel, int(layer), self.rows) for layer in layers)
        layer = widgets[self.layer] if isinstance(self.layer, str) else self.layer
        return (Need(self.channel, layer, self.rows),)


def needs_of(annotation: Any) -> tuple[Needs, ...]:
    """The `Needs` in an annotation: of the whole, or of a member (`Annotated[Tokens, Needs(...)] | None`)."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return (*(m for m in metadata if isinstance(m, Needs)), *needs_of(inner))
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(needs for member in get_args(annotation) for needs in needs_of(member))
    return ()
