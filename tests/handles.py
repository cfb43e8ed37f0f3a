"""Model handles for tests: they know how pictures are prepared, and load nothing."""

from __future__ import annotations

from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import ImageFacts, Model, ModelFacts

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def image_handle(image: ImageFacts | None) -> Model[ChatFormat]:
    """The chat handle of a checkpoint that prepares pictures like this."""
    return Model(
        kind=ChatFormat,
        loader="none",
        folder="",
        fingerprint="",
        dtype="float32",
        device="cpu",
        facts=ModelFacts(name="tiny", image=image),
    )
