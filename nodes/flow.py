"""A drawing of how many tokens each stage leaves."""

from __future__ import annotations

from itertools import chain

from ..runtime.errors import WiringError
from ..runtime.flow import stages_of
from ..runtime.flow_picture import Heights, flow_picture
from ..runtime.node import node
from ..runtime.values import LLMInput, LLMState, Picture, Tokens


def _foresee(*stages: object, names: tuple[str, ...], **_: object) -> None:
    _check(len(stages), names)


@node(version=1, foresee=_foresee)
def token_flow(
    *stages: Tokens | LLMInput | LLMState,
    names: tuple[str, ...] = (),
    text: bool = False,
    heights: Heights = "auto",
    title: str = "",
) -> Picture:
    """The tokens of each stage as a column, with ribbons to the next: kept, merged into which, dropped.

    A column is as high as it has tokens, its parts by what these are. A state of the language model tells of
    all of its layers: one column for each run of layers that saw the same rows. Ribbons join stages of the
    same pictures. Errors: WiringError for no stage, and for names that are not one for each.

    stages: in the order that they come about.
    names: what to call each stage; none: by its type.
    text: show the rows of text in the language model, too.
    heights: of columns: by their `tokens`, or by the square `root` of them, so that a small part can be seen;
        `auto`: the root where a stage is below 4 % of another.
    title: empty: how many tokens there are first and last.
    """
    _check(len(stages), names)
    called = names or ("",) * len(stages)
    made = (stages_of(value, name, text=text) for value, name in zip(stages, called, strict=True))
    return flow_picture(list(chain.from_iterable(made)), title, heights)


def _check(stages: int, names: tuple[str, ...]) -> None:
    if not stages:
        raise WiringError("token_flow.stages: nothing is connected; wire tokens, a placed prompt or a state")
    if names and len(names) != stages:
        raise WiringError(
            f"token_flow.names: {len(names)} for {stages} {'stage' if stages == 1 else 'stages'}; give one "
            "for each, or none"
        )
