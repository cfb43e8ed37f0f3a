"""Model handles: what travels along model wires is a fingerprint, facts and a recipe, never weights.

`Model[VisionTower]` says what it loads; `handle.load()` asks the pool, so two graphs that name the same files
hold one copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, cast

import torch

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """How pictures become tiles. `pinpoints`: (width, height); `mean`, `std`: per channel of 0..1 values."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    aspect: Literal["pad", "square", "anyres"] = "pad"
    pinpoints: tuple[tuple[int, int], ...] = ()
    merge_type: Literal["flat", "spatial", "spatial_unpad"] = "flat"
    unpad_rounding: Literal["int", "hf"] = "int"


@dataclass(frozen=True, kw_only=True)
class TowerFacts:
    """A vision tower's shape. `select_layer` and `select_feature` are the checkpoint's own choice."""

    family: Literal["clip", "siglip"]
    hidden: int
    depth: int
    heads: int
    patch: int
    size: int
    has_cls: bool
    select_layer: int = -2
    select_feature: Literal["patch", "cls_patch"] = "patch"

    @property
    def grid(self) -> int:
        """Patches along one side of a tile."""
        return self.size // self.patch


@dataclass(frozen=True, kw_only=True)
class ProjectorFacts:
    """A projector's kind and widths; `newline` when the checkpoint holds an `image_newline` vector."""

    kind: str
    inputs: int
    outputs: int
    newline: bool = False


@dataclass(frozen=True, kw_only=True)
class LanguageFacts:
    """A language model's shape and limits."""

    family: str
    hidden: int
    depth: int
    heads: int
    kv_heads: int
    vocab: int
    max_length: int
    bos: int | None = None
    eos: tuple[int, ...] = ()
    pad: int | None = None


@dataclass(frozen=True, kw_only=True)
class ChatFacts:
    """The chat template's name, and the token id that stands for an image (None: a -200 sentinel)."""

    template: str
    image_token: int | None = None
    random_weights: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """All that is known of a checkpoint without reading weights; parts that it lacks are None."""

    name: str
    tower: TowerFacts | None = None
    projector: ProjectorFacts | None = None
    language: LanguageFacts | None = None
    chat: ChatFacts | None = None
    image: ImageFacts | None = None


@dataclass(frozen=True, kw_only=True)
class Model(Generic[T_co]):
    """A part of a checkpoint, not yet loaded.

    kind: the class that `load()` returns. loader: the registered loader that makes it. folder: resolved
    local folder. fingerprint: of the files and the recipe; the identity of the weights. options: further
    recipe, e.g. a tower in a folder of its own.
    """

    kind: type[T_co]
    loader: str
    folder: str
    fingerprint: str
    dtype: str
    device: str
    facts: ModelFacts
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    def load(self) -> T_co:
        """The model itself, on its device: from the pool, or read now."""
        from .pool import pool

        return cast("T_co", pool().use(self))

    @property
    def torch_device(self) -> torch.device:
        """`device` for torch."""
        return torch.device(self.device)
