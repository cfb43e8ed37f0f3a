"""Golden cases of PLLaVA and PruneVid on it: preprocessing, and from pixels to the answer's ids."""

from __future__ import annotations

import torch

from tokenloom.nodes.tile import preprocess
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.values import Frames

from ..handles import CLIP_MEAN, CLIP_STD, image_handle
from .runners import Case, runs


@runs("prunevid", "PllavaProcessor.__call__")
def two_resizes(case: Case) -> None:
    frames = case.inputs["frames"]
    side = case.facts["args"]["clip_resolution"]
    chat = image_handle(ImageFacts(size=side, mean=CLIP_MEAN, std=CLIP_STD, aspect="pllava"))
    clip = Frames.of_video(frames, frames.new_zeros(len(frames), dtype=torch.float64))
    made = preprocess(chat, clip).pixels
    case.check(made, "pixel_values", tolerance="pixel_values")
    assert made.equal(case.expected["pixel_values"]), f"{case.name}: not bit-exact"
