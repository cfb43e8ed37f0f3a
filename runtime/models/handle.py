"""Model handles: what travels along model wires is a fingerprint, facts and a recipe, never weights.

`Model[VisionTower]` says what it loads; `handle.load()` asks the pool, so two graphs that name the same files
hold one copy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, cast

import torch

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """How pictures become tiles. `pinpoints`: (width, height); `mean`, `std`: per channel of 0..1 values.

    With aspect `qwen` a picture is one tile of its own size (`size` is 0), but for rounding its sides to
    multiples of `multiple` and scaling it to between `min_pixels` and `max_pixels`.
    With aspect `anyres`, `frames` says how frames of a clip are cut; and with `max_tiles` (LLaVA-OneVision) a
    picture's map has the patches of so many tiles at most, and several pictures are padded, not cut up.
    `newline`: what ends with `image_newline` in a clip.
    pooling: rows and columns of tokens that a frame is pooled to (PLLaVA), None: it is not pooled.
    With aspect `slice` (TokenPacker-HD) a picture is cut into `patch_num` crops at most, 0: it does not say.
    With aspect `dynamic` (InternVL) it is cut into `min_tiles` to `max_tiles` tiles, and shown whole as well
    if it is cut up and there is a `thumbnail`.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    aspect: Literal["pad", "square", "stretch", "anyres", "qwen", "pllava", "slice", "dynamic"] = "pad"
    pinpoints: tuple[tuple[int, int], ...] = ()
    merge_type: Literal["flat", "spatial", "spatial_unpad"] = "flat"
    unpad_rounding: Literal["int", "hf"] = "int"
    frames: Literal["square", "stretch"] = "square"
    max_tiles: int = 0
    min_tiles: int = 1
    thumbnail: bool = False
    newline: Literal["clip", "frame", "row", "none"] = "clip"
    multiple: int = 1
    min_pixels: int = 0
    max_pixels: int = 0
    patch_num: int = 0
    pooling: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class PvcFacts:
    """What PVC adds, as its checkpoint has it: proposed definitions, for its code could not be read.

    layers: those with temporal attention, counted from 0. adaln_on: where in them AdaLN is, of attn, temporal
    and ffn. time, time_scale: how a frame's number becomes its time. time_width: of its sinusoid, 0: no time
    embedding. compressor_adaln: the projector has AdaLN. image_repeat, video_repeat: copies of a tile, and of
    a frame; repeat_way: all copies of a tile, then the next, or all tiles, then again.
    """

    layers: tuple[int, ...]
    adaln_on: tuple[str, ...] = ("temporal",)
    time: Literal["fraction", "fraction_inclusive", "index"] = "fraction"
    time_scale: float = 1.0
    time_width: int = 256
    compressor_adaln: bool = True
    image_repeat: int = 4
    video_repeat: int = 1
    repeat_way: Literal["tile", "frame"] = "tile"


@dataclass(frozen=True, kw_only=True)
class TowerFacts:
    """A vision tower's shape. `select_layer` and `select_feature` are the checkpoint's own choice.

    size: side of its tiles in pixels, 0: any multiples of `patch * merge`. merge: patches along the side of a
    group that the projector makes one token. temporal: pictures that one patch is made of, repeated or a pair
    of frames. intermediate: width inside the MLPs. pvc: what else there is between frames. assumed: what of
    it no file says.
    """

    family: Literal["clip", "siglip", "qwen2_5_vl", "internvit"]
    hidden: int
    intermediate: int
    depth: int
    heads: int
    patch: int
    size: int
    has_cls: bool
    select_layer: int = -2
    select_feature: Literal["patch", "cls_patch"] = "patch"
    merge: int = 1
    temporal: int = 1
    pvc: PvcFacts | None = None
    assumed: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is taken on trust."""
        return (self.assumed,) if self.assumed else ()

    @property
    def grid(self) -> int:
        """Patches along one side of a tile; 0: it depends on the tile."""
        return self.size // self.patch


@dataclass(frozen=True, kw_only=True)
class ProjectorFacts:
    """A projector's kind and widths; `newline` when the checkpoint holds an `image_newline` vector.

    Of a `tokenpacker`: scale_factor: places along the side of a window, None: nobody said; scale_from: who
    did. heads: of its attention. levels: how many layers of the tower it reads; layers: which, numbered as
    hidden_states, None: nobody said.
    Of a `pixel_shuffle` (InternVL): ratio: of the grid's sides after and before; ps_version: `v1` leaves rows
    and columns swapped, as released; `v2` does not. pvc: how it is modulated by time.
    """

    kind: str
    inputs: int
    outputs: int
    newline: bool = False
    scale_factor: int | None = None
    scale_from: str = ""
    heads: int = 1
    levels: int = 1
    layers: tuple[int, ...] | None = None
    ratio: float | None = None
    ps_version: Literal["v1", "v2"] = "v2"
    pvc: PvcFacts | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is taken on trust, and who said it: the weights of a TokenPacker fit any scale factor."""
        if self.kind != "tokenpacker":
            return ()
        if self.scale_factor is None:
            return ("scale_factor is not known: config.json does not say it, and no weight can tell",)
        return (f"scale_factor {self.scale_factor}, from {self.scale_from}; no weight can confirm it",)

    @property
    def side(self) -> int:
        """Patches along the side of a group that a `pixel_shuffle` makes one token."""
        assert self.ratio is not None, "its ratio is known when it is loaded"
        return round(1 / self.ratio)

    @property
    def merge(self) -> int | None:
        """Patches along the side of a group that a `merger2x2` makes one token; None for other kinds."""
        found = re.fullmatch(r"merger(\d+)x\1", self.kind)
        return int(found[1]) if found else None


@dataclass(frozen=True, kw_only=True)
class LanguageFacts:
    """A language model's shape and limits.

    head_dim: width of a head. intermediate: width inside the MLPs. rope_grid: rotary positions have three
    axes, time, row and column (M-RoPE), and this many patches along a side share one place; 0: plain
    positions.
    """

    family: str
    hidden: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_length: int
    bos: int | None = None
    eos: tuple[int, ...] = ()
    pad: int | None = None
    rope_grid: int = 0


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
    def notes(self) -> tuple[str, ...]:
        """What is taken on trust."""
        parts = (self.facts.tower, self.facts.projector)
        return tuple(note for part in parts if part is not None for note in part.notes)

    @property
    def torch_device(self) -> torch.device:
        """`device` for torch."""
        return torch.device(self.device)
