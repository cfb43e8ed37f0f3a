"""The store: every value comes back equal from tensors and JSON, and nothing unregistered goes in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from tokenloom.runtime.store import (
    Packed,
    Unstorable,
    _tensor_fields,
    bytes_of,
    pack,
    storable,
    tensors_of,
    unpack,
)
from tokenloom.runtime.values import (
    Answer,
    Frames,
    Hiding,
    Image,
    KVCache,
    LayerCache,
    LLMInput,
    LLMState,
    Picture,
    Prompt,
    Slot,
    Source,
    Table,
    Tile,
    Tiles,
    Tokens,
    VisualTokens,
)

from ..same import same
from .engine_nodes import tokens


def through_json(value: Any) -> Any:
    packed = pack(value)
    return unpack(Packed(json.loads(json.dumps(packed.tree)), packed.tensors))


def state() -> LLMState:
    rows = torch.arange(3)
    visual = tokens(2).with_features(torch.ones(2, 4), VisualTokens)
    start = LLMInput(torch.randn(3, 4), rows, torch.zeros(3, dtype=torch.uint8), rows, rows, rows, (visual,))
    layer = LayerCache(torch.randn(2, 3, 2), torch.randn(2, 3, 2), rows, rows)
    return LLMState(torch.randn(3, 4).half(), rows, rows, 1, KVCache((layer,)), start, 3, {"x@1": rows})


def hiding_state() -> LLMState:
    """With a model's name, attention received, and hidden rows."""
    plain = state()
    heard = replace(plain.cache.layers[0], received=torch.rand(2, 3))
    return replace(
        plain,
        input=replace(plain.input, model="abc"),
        cache=KVCache((heard,)),
        hiding=Hiding(1, torch.tensor([True, False, True]), 1),
        ran=(plain.row,),
    )


VALUES = [
    None,
    tokens().with_side(keys=torch.randn(4, 2).bfloat16()),
    Frames((torch.zeros(2, 3, 3, dtype=torch.uint8),), torch.zeros(1, dtype=torch.float64)),
    Tiles(torch.zeros(1, 3, 2, 2), (Tile(frame=0, box=(0.0, 0.0, 2.0, 2.0)),), ((2, 2),), (0.0,)),
    state(),
    hiding_state(),
    Image(path="a.png", fingerprint="f", width=2, height=3),
    Prompt(pieces=((1, 2), Slot(), (3,)), text="hi", stop=("</s>",)),
    Answer(text="yes", ids=(1, 2), finish="stop", prompt_tokens=3, visual_tokens=2),
    Picture(torch.zeros(1, 2, 3, dtype=torch.uint8), "c"),
    Table(("a",), ((1,), (None,)), "t"),
    {"a": [1, (2.5, "x")], "b": b"\0\xff", "c": Path("x/y")},
    (torch.tensor(3.0), torch.zeros(0, 2), torch.ones(2, dtype=torch.bool), torch.float16),
    float("inf"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_round_trip(value: Any) -> None:
    """Every value type comes back equal, class by class and bit by bit."""
    assert same(through_json(value), value)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"))


@given(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner) | st.dictionaries(st.text("ab$"), inner) | st.tuples(inner, inner),
        max_leaves=20,
    )
)
def test_plain_values_round_trip(value: Any) -> None:
    """Any nesting of plain values comes back, keys that look like our marks included."""
    assert same(through_json(value), value)


def test_shared_memory_is_stored_once() -> None:
    """Views that cover their memory are stored once, and share memory again when read."""
    pixels = torch.arange(24, dtype=torch.uint8).reshape(2, 2, 2, 3)
    frames = Frames.of_video(pixels, torch.zeros(2))
    packed = pack(frames)
    assert sum(t.numel() for t in packed.tensors.values() if t.dtype == torch.uint8) == 24
    back = unpack(packed)
    assert back.pictures[0].untyped_storage().data_ptr() == back.pictures[1].untyped_storage().data_ptr()
    assert same(back, frames)


def test_a_slice_of_something_large_is_stored_small() -> None:
    """A view of a small part does not drag the whole memory to disk."""
    packed = pack(torch.zeros(1000, 1000)[3])
    assert sum(t.numel() for t in packed.tensors.values()) == 1000


def test_the_same_tensor_twice() -> None:
    """A tensor that occurs twice is one tensor again."""
    one = torch.randn(3)
    packed = pack((one, {"again": one}))
    assert len(packed.tensors) == 1
    back = unpack(packed)
    assert back[0] is back[1]["again"]


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Own:
    x: Tensor
    colour: Colour


class Couple(NamedTuple):
    a: int
    b: Own


def test_unregistered_classes_are_refused() -> None:
    """A class that nobody registered is named."""

    @dataclass(frozen=True)
    class Stranger:
        x: int

    with pytest.raises(Unstorable, match="Stranger is not registered with tokenloom's store"):
        pack((1, Stranger(2)))
    with pytest.raises(Unstorable, match=r"layout torch\.sparse_coo"):
        pack(torch.zeros(2, 2).to_sparse())


def test_plug_ins_register_their_own() -> None:
    """`storable` registers dataclasses, named tuples and enums."""
    for cls in (Colour, Own, Couple):
        storable(cls)
    value = Couple(1, Own(torch.ones(2), Colour.RED))
    assert same(through_json(value), value)
    with pytest.raises(TypeError, match="int is no dataclass, NamedTuple or Enum"):
        storable(int)


def test_unknown_names_are_refused_when_reading() -> None:
    """A tree that names a class nobody registered is refused, whatever it is."""
    with pytest.raises(ValueError, match="os:system is not registered"):
        unpack(Packed({"$": "object", "c": "os:system", "f": {}}, {}))
    with pytest.raises(ValueError, match=r"torch\.load is no dtype"):
        unpack(Packed({"$": "dtype", "v": "load"}, {}))


def test_bytes_of_counts_shared_memory_once() -> None:
    """A value's bytes: every memory once."""
    pixels = torch.zeros(4, 100, 100, 3, dtype=torch.uint8)
    assert bytes_of(Frames.of_video(pixels, torch.zeros(4))) == pytest.approx(120_000, rel=0.01)
    assert bytes_of(3) < 100


def test_every_tensor_of_a_value_is_found() -> None:
    """Whatever the fields are annotated with; a source of many tiles is not walked through for it."""
    for value in VALUES:
        found = {id(tensor) for tensor in tensors_of(value)}
        assert found == {id(tensor) for tensor in _every_tensor(value)}
    assert _tensor_fields(Tokens) == ("features", "start", "member", "share", "kind", "home", "side")
    assert _tensor_fields(Source) == ()


def _every_tensor(value: Any) -> Iterator[Tensor]:
    """Slow and sure."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _every_tensor(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _every_tensor(one)
    elif is_dataclass(value):
        for f in fields(value):
            yield from _every_tensor(getattr(value, f.name))
