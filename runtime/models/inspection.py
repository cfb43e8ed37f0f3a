"""What a folder of safetensors holds, folded to a readable list, and which name map claims what.

Only names, shapes and dtypes are looked at: neither weights nor a configuration are needed, so it tells of
checkpoints, too, that no loader knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .headers import INDEX, ITEM_BYTES, Stored, read_header, stored_in
from .intern import native_tower_tensors
from .names import ROUTES, SHAPES, TOWER_ROUTES, Part, route
from .pvc_names import PvcMap, bundled, pvc_map
from .strict import linears, span

_NUMBER = re.compile(r"(?:(?<=\.)|^)\d+(?=\.|$)")
_LORA = re.compile(r"\.lora_[AB]\.[^.]+\.weight$")
Routes = tuple[tuple[str, Part, str], ...]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Whose names they are.

    base: tables of SHAPES that all of the family have. options: that some have. more, rare: names beside.
    """

    name: str
    base: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    more: frozenset[str] = frozenset()
    rare: frozenset[str] = frozenset()

    @cached_property
    def always(self) -> frozenset[str]:
        """Names that every one of them has, `{}` for the number of a layer."""
        return _lines(self.base) | self.more

    @cached_property
    def sometimes(self) -> frozenset[str]:
        """Names that only some have."""
        return _lines(self.options) | self.rare

    def knows(self, name: str) -> bool:
        """Whether this name, of a certain layer, is one of theirs."""
        every = self.always | self.sometimes
        return name in every or folded(name) in every


def _lines(tables: Iterable[str]) -> frozenset[str]:
    return frozenset(
        line.split()[0] for table in tables for line in SHAPES[table].split("\n") if line.strip()
    )


def _native(tables: Iterable[str]) -> frozenset[str]:
    """What transformers calls the tensors of these tables of InternViT's."""
    stored = {name: Stored(name, Path(), "F32", (3,)) for name in _lines(tables)}
    return frozenset(native_tower_tensors(stored))


INTERNVIT = ("internvit qkv_bias", "internvit qk_normalization", "internvit layer_norm")
MLP = tuple(
    frozenset(f"{2 * i}.{end}" for i in layers for end in ("weight", "bias"))
    for layers in (range(1), range(1, linears("mlp9x_gelu")))
)
NORMED = frozenset(f"{name}.{end}" for name in ("norm", "0", "2") for end in ("weight", "bias"))
FAMILIES: dict[str, tuple[Family, ...]] = {
    "tower": (
        Family(name="CLIP", base=("clip",)),
        Family(name="SigLIP", base=("siglip",)),
        Family(name="InternViT", base=("internvit",), options=INTERNVIT),
        Family(name="InternViT in transformers' names", more=_native(("internvit", *INTERNVIT))),
        Family(name="Qwen2.5-VL", base=("qwen2_5_vl tower",)),
    ),
    "projector": (
        Family(name="linear", more=frozenset({"weight", "bias"})),
        Family(name="MLP", more=MLP[0], rare=MLP[1]),
        Family(name="pixel shuffle", base=("pixel_shuffle",)),
        Family(name="pixel shuffle in transformers' names", more=NORMED),
        Family(name="patch merger", base=("qwen2_5_vl merger",)),
        Family(name="TokenPacker", base=("tokenpacker",)),
    ),
    "language": (
        Family(name="Llama", base=("llama",), options=("attention_bias", "mlp_bias")),
        Family(name="Mistral", base=("mistral",)),
        Family(name="Qwen2", base=("qwen2",)),
        Family(name="InternLM2", base=("internlm2",), options=("internlm2 bias",)),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tensors of one name but for its numbers, one shape, one dtype and one claim.

    names: `layers.{0..23}.norm.weight`. part: tower, projector, language, ..., "" when no map covers them.
    family: whose names they are.
    """

    names: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    part: str
    family: str

    @property
    def parameters(self) -> int:
        """Of all of them together."""
        return self.count * math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Of all of them together."""
        return self.parameters * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All groups, in the order of the files.

    files: how many tensors each file has. problems: what is wrong with the files, a sentence each.
    """

    groups: tuple[Group, ...]
    files: Mapping[str, int]
    problems: tuple[str, ...]

    @property
    def unknown(self) -> tuple[Group, ...]:
        """What no map covers."""
        return tuple(group for group in self.groups if not group.part)


def inspect_folder(folder: Path, shown: str, config: Mapping[str, Any] | None = None) -> Inspection:
    """Everything that the headers of a folder's safetensors files say.

    shown: what the user called it. config: tells families of the same names apart. Errors: CheckpointError
    for a folder without safetensors files, and for a file that is none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        stored_in(folder, shown)  # says what is there instead, and what to do
    headers = {file.name: read_header(file) for file in files}
    problems: list[str] = []
    if (folder / INDEX).is_file() or len(files) == 1:
        try:
            stored_in(folder, shown)
        except CheckpointError as error:
            problems.append(str(error))
    return inspect_headers(headers, folder, config, problems)


def inspect_headers(
    headers: Mapping[str, Mapping[str, Stored]],
    folder: Path,
    config: Mapping[str, Any] | None = None,
    problems: Iterable[str] = (),
) -> Inspection:
    """The same of headers by file name; problems: of the files, as far as they are known."""
    problems, names = list(problems), bundled()
    try:
        names = pvc_map(folder)
    except CheckpointError as error:
        problems.append(str(error))
    tensors: dict[str, Stored] = {}
    for file, header in headers.items():
        twice = sorted(header.keys() & tensors.keys())
        if twice:
            problems.append(f"{file}: {twice[0]} is in {tensors[twice[0]].file.name}, too")
        tensors |= header
    groups = grouped(tensors.values(), kinds(config or {}), names)
    counts = {name: len(header) for name, header in headers.items()}
    return Inspection(groups=groups, files=counts, problems=tuple(problems))


def kinds(config: Mapping[str, Any]) -> str:
    """What a configuration and those inside it call themselves, in one text."""
    inside = [kinds(value) for value in config.values() if isinstance(value, dict)]
    return " ".join([str(config.get("model_type", "")).lower(), *inside])


def grouped(tensors: Iterable[Stored], told: str = "", names: PvcMap | None = None) -> tuple[Group, ...]:
    """The tensors folded by the numbers in their names, in the order of the first of each group.

    told: `kinds` of the configuration. names: what PVC calls its own tensors.
    """
    tensors = list(tensors)
    claims = claimed([stored.name for stored in tensors], told)
    if names is not None:
        found_by = {stored.name: names.find(stored.name) for stored in tensors if stored.name not in claims}
        family = "PVC, proposed names" if names is bundled() else f"PVC, {names.file}"
        claims |= {name: (found[0], family) for name, found in found_by.items() if found}
    found: dict[tuple[str, tuple[int, ...], str, tuple[str, str]], list[tuple[int, ...]]] = {}
    for stored in tensors:
        key = (folded(stored.name), stored.shape, stored.dtype, claims.get(stored.name, ("", "")))
        found.setdefault(key, []).append(tuple(int(n) for n in _NUMBER.findall(stored.name)))
    return tuple(
        Group(
            names=template.format(*map(span, zip(*numbers, strict=True))),
            shape=shape,
            dtype=dtype,
            count=len(numbers),
            part=part,
            family=family,
        )
        for (template, shape, dtype, (part, family)), numbers in found.items()
    )


def claimed(names: Sequence[str], told: str = "") -> dict[str, tuple[str, str]]:
    """Part and family by name, of the names that a map covers.

    In each part the family that knows most of its names claims those, and no others. Of the maps of whole
    checkpoints and of towers alone, the one that covers more.
    """
    return max((_claimed(names, routes, told) for routes in (ROUTES, TOWER_ROUTES)), key=len)


def _claimed(names: Sequence[str], routes: Routes, told: str) -> dict[str, tuple[str, str]]:
    parts: dict[str, dict[str, str]] = {}
    for name in names:
        routed = route(name, routes)
        if routed is not None:
            parts.setdefault(routed[0], {})[name] = _LORA.sub(".weight", routed[1])
    out: dict[str, tuple[str, str]] = {}
    for part, own in parts.items():
        if part in ("ignored", "newline"):
            out |= dict.fromkeys(own, (part, "not read" if part == "ignored" else "LLaVA"))
            continue
        likely = _likeliest(FAMILIES["tower" if part == "image_tower" else part], own.values(), told)
        claim = part, " or ".join(family.name for family in likely)
        out |= {name: claim for name, canonical in own.items() if likely[0].knows(canonical)}
    return out


def _likeliest(families: Sequence[Family], names: Iterable[str], told: str) -> list[Family]:
    """Those that know most names, miss fewest of their own, need fewest options, and are told of."""
    asked = {folded(name) for name in names} | set(names)

    def merit(family: Family) -> tuple[int, int, int, bool]:
        options = len(asked & family.sometimes)
        always = len(asked & family.always)
        return always + options, always - len(family.always), -options, family.name.lower() in told

    best = max(map(merit, families))
    return [family for family in families if merit(family) == best]


def folded(name: str) -> str:
    """The name with `{}` for every number between its dots."""
    return _NUMBER.sub("{}", name.replace("{", "{{").replace("}", "}}"))
