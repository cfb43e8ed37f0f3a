"""Values look like one short line, in a notebook, an error and a report alike."""

from __future__ import annotations

import torch

from tokenloom import nodes, run
from tokenloom.runtime.values import (
    Frames,
    KVCache,
    LayerCache,
    LLMInput,
    LLMState,
    Logits,
    Patches,
    Picture,
    Source,
    Tile,
    Tiles,
    VisualTokens,
)


def test_tokens() -> None:
    """Class, shape, dtype and device, for every class of tokens."""
    patches = Patches.of_patches(Source((Tile(frame=0, box=(0, 0, 4, 4)),), 2, 2), torch.zeros(4, 3))
    assert repr(patches) == "Patches[4 x 3, float32, cpu]"
    visual = patches.with_features(torch.zeros(4, 5, dtype=torch.float16), VisualTokens)
    assert repr(visual) == "VisualTokens[4 x 5, float16, cpu]"


def test_pictures() -> None:
    """How many, and how large."""
    frames = Frames((torch.zeros(2, 3, 3, dtype=torch.uint8),) * 2, torch.zeros(2))
    assert repr(frames) == "Frames[2 of 3x2]"
    tiles = Tiles(torch.zeros(1, 3, 4, 4), (Tile(frame=0, box=(0, 0, 4, 4)),), ((4, 4),), (0.0,))
    assert repr(tiles) == "Tiles[1 x 3 x 4 x 4, float32, cpu]"
    assert repr(Picture(torch.zeros(2, 3, 3, dtype=torch.uint8), "a cat")) == "Picture[3x2] 'a cat'"


def test_states() -> None:
    """The sequence, and the layer it has reached."""
    row = torch.zeros(2, dtype=torch.long)
    inputs = LLMInput(torch.zeros(2, 3), row, row.to(torch.uint8), row, row, row)
    cache = LayerCache(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), row, row)
    state = LLMState(torch.zeros(2, 3), row, row, 1, KVCache((cache,)), inputs, 2)
    assert repr(inputs) == "LLMInput[2 x 3, float32, cpu]"
    assert repr(state) == "LLMState[layer 1, 2 x 3, float32, cpu]"
    assert repr(state.cache) == "KVCache(layers=(LayerCache[1 x 2 x 3, float32, cpu],))"
    assert repr(Logits(torch.zeros(2, 5), row)) == "Logits[2 x 5, float32, cpu]"


def test_results() -> None:
    """The outputs by name, each in its own short line."""
    from tokenloom import Graph

    with Graph() as g:
        g.output(model=nodes.load_model(checkpoint="tiny-random").chat)
    assert repr(run(g, cache=False)) == "<Result model: Model[ChatFormat] of tiny-random>"
