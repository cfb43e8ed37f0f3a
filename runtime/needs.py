"""Side channels by demand: what a socket asks of whoever computes its tokens.

`Needs` is the annotation on a socket, `Need` the one concrete wish that the planner carries upstream. A node
that computes channels (`encode_vision`, `prefill`) reads its wishes from `runtime.context.wanted()`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, get_args, get_origin

OWN = "own"  # form of a wish: the layers that the checkpoint's own projector reads


@dataclass(frozen=True, order=True)
class Need:
    """One wish: a channel, at one layer, for some rows (None: all), in one form (None: the usual one).

    layer: None is the layer of the features; for a state of the language model the last that has run.
    form: which of several ways to compute it, as its provider documents them.
    """

    channel: str
    layer: int | None = None
    rows: str | None = None
    form: str | None = None

    @property
    def key(self) -> str:
        """The name under which the channel lies in `side`: `keys`, `hidden@12`, `attention:text/mean`."""
        at = "" if self.layer is None else f"@{self.layer}"
        of = "" if self.rows is None else f":{self.rows}"
        return f"{self.channel}{at}{of}" + ("" if self.form is None else f"/{self.form}")


@dataclass(frozen=True)
class Needs:
    """`Annotated[Tokens, Needs("cls_attention")]`: the socket's tokens must carry that side channel.

    `layer`, `layers`, `rows` and each part of `form` may be the name of a widget of the same node
    (`layers="levels"`), whose value then stands there; the parts of `form` are joined by commas. Where such
    `layers` are null, the wish has the form `own`: the layers that the checkpoint's projector reads. `when`
    limits the wish to some widget values (`when={"score": "cls"}`).
    """

    channel: str
    layer: int | str | None = None
    layers: tuple[int, ...] | str = ()
    rows: str | None = None
    form: tuple[str, ...] = ()
    when: Mapping[str, object] = field(default_factory=dict[str, object], hash=False)

    def resolve(self, widgets: Mapping[str, Any]) -> tuple[Need, ...]:
        """The wishes that hold for these widget values."""
        if any(widgets.get(name) != value for name, value in self.when.items()):
            return ()
        rows = None if self.rows is None else str(widgets.get(self.rows, self.rows))
        form = ",".join(str(widgets.get(part, part)) for part in self.form) or None
        layers = widgets[self.layers] if isinstance(self.layers, str) else self.layers
        if layers is None:
            return (Need(self.channel, rows=rows, form=OWN),)
        if layers or isinstance(self.layers, str):
            return tuple(Need(self.channel, int(layer), rows, form) for layer in layers)
        layer = widgets[self.layer] if isinstance(self.layer, str) else self.layer
        return (Need(self.channel, layer, rows, form),)


def needs_of(annotation: Any) -> tuple[Needs, ...]:
    """The `Needs` in an annotation: of the whole, or of a member (`Annotated[Tokens, Needs(...)] | None`)."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return (*(m for m in metadata if isinstance(m, Needs)), *needs_of(inner))
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(needs for member in get_args(annotation) for needs in needs_of(member))
    return ()
