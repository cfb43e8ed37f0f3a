"""TokenPacker's projector on its own, without a language model: a checkpoint's, and a new one to train."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tokenloom import nodes
from tokenloom.runtime.context import demand
from tokenloom.runtime.models.tokenpacker import TokenPacker
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import VisualTokens

SAMPLE = Path(__file__).parents[1] / "graphs" / "media" / "scene.png"
LEVELS = 4  # layers of the tower that go into the keys


def released(image: Path, checkpoint: str = "tiny-tokenpacker", scale: int | None = None) -> VisualTokens:
    """The tokens of a picture: 144 of 24 x 24 patches with scale 2, 64 with 3, 36 with 4."""
    model = nodes.load_model(checkpoint=checkpoint)  # reads no weights; those of the language model never
    tiles = nodes.preprocess(model.chat, nodes.load_image(path=image))
    with demand(Need("hidden", form="own")):  # the layers that the projector reads
        patches = nodes.encode_vision(model.vision, tiles)
    return nodes.project_tokenpacker(model.projector, patches, scale_factor=scale)


def fresh(width: int = 1024, outputs: int = 4096) -> torch.Tensor:
    """[1, 144, outputs] of new weights: any grid, any number of levels, gradients as usual."""
    packer = TokenPacker(width, outputs, levels=LEVELS)
    hidden = [torch.randn(1, 24, 24, width) for _ in range(LEVELS)]
    tokens: torch.Tensor = packer(hidden[-1], torch.cat(hidden, -1), scale=2)
    return tokens


if __name__ == "__main__":
    print(released(Path(sys.argv[1]) if sys.argv[1:] else SAMPLE))
    print(tuple(fresh().shape))
