"""A node that writes into its input fails the run, and leaves no wrong value behind."""

from __future__ import annotations

import pytest
import torch

from tokenloom import Graph, node, run
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import WroteIntoInputError
from tokenloom.runtime.values import Picture


@node(version=1)
def untouched_source() -> Picture:
    """Black."""
    return Picture(torch.zeros(1, 1, 3, dtype=torch.uint8))


@node(version=1)
def untouched_writer(picture: Picture, *, spoil: bool = True) -> int:
    """The sum, counted in the input itself."""
    pixels = picture.pixels if spoil else picture.pixels.clone()
    pixels += 1
    return int(pixels.sum())


def graph(spoil: bool) -> Graph:
    with Graph() as g:
        picture = untouched_source()
        g.output(count=untouched_writer(picture, spoil=spoil), picture=picture)
    return g


def test_writing_into_an_input_is_an_error() -> None:
    """It names the node, the socket, and the way out."""
    with pytest.raises(WroteIntoInputError) as error:
        run(graph(spoil=True), cache=False)
    assert str(error.value) == (
        "untouched_writer: it wrote into its input picture in place, which others use too; "
        "let the node work on a copy (.clone())"
    )


def test_what_was_spoilt_is_not_kept() -> None:
    """The next run makes the picture anew instead of taking the spoilt one from memory."""
    cache = Cache(None)
    with pytest.raises(WroteIntoInputError):
        run(graph(spoil=True), cache=cache)
    result = run(graph(spoil=False), cache=cache)
    assert result["count"] == 3
    assert int(result["picture"].pixels.sum()) == 0
