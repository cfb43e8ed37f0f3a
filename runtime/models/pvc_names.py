"""How a PVC checkpoint calls what it adds to InternVL2, and its options: a data file, for they are not known.

`pvc.yaml` beside the checkpoint's config.json, else the bundled one, which holds proposals.
"""

# D = width of the tower, G = width of a group of patches

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import CheckpointError
from .configs import Json
from .handle import PvcFacts
from .headers import Stored
from .pvc import PLACES, RULES
from .strict import Shape

Part = Literal["tower", "projector"]
NAME = "pvc.yaml"
BUNDLED = Path(__file__).parent / NAME
_KEYS = {"model_types", "tower", "projector", "options"}
_OPTIONS: dict[str, tuple[Any, ...]] = {  # allowed types, or values
    "layers": (int, None), "adaln_on": (list, None), "time_embed": (bool, None), "time_width": (int, None),
    "compressor_adaln": (bool, None), "time": RULES, "time_scale": (int, float), "image_repeat": (int,),
    "video_repeat": (int,), "repeat_way": ("tile", "frame"),
}  # fmt: skip
OURS: dict[Part, frozenset[str]] = {
    "tower": frozenset(
        {"temporal_embedder.mlp.0", "temporal_embedder.mlp.2", "layers.{}.temporal_ls"}
        | {f"layers.{{}}.temporal_attn.{name}" for name in ("qkv", "proj")}
        | {f"layers.{{}}.adaln.{place}" for place in PLACES}
    ),
    "projector": frozenset(
        {"mlp1.0", "mlp1.1", "mlp1.3", "mlp1_adaln"} | {f"mlp1_temporal_embedder.mlp.{i}" for i in (0, 2)}
    ),
}
_END = re.compile(r"\.(weight|bias)$")


@dataclass(frozen=True)
class PvcMap:
    """One data file. names: by pattern of the stored name, the part and our name with `{}` for the layer."""

    file: Path
    model_types: tuple[str, ...]
    names: tuple[tuple[re.Pattern[str], Part, str], ...]
    options: Mapping[str, Any]

    def find(self, name: str) -> tuple[Part, str] | None:
        """The part and our name of a stored tensor; None for one that is InternVL2's, or unknown."""
        end = _END.search(name)
        stem, suffix = (name[: end.start()], end[0]) if end else (name, "")
        for pattern, part, ours in self.names:
            if found := pattern.fullmatch(stem):
                return part, ours.format(*found.groups()) + suffix
        return None

    def take(self, stored: Mapping[str, Stored]) -> tuple[dict[str, Stored], dict[Part, dict[str, Stored]]]:
        """The tensors that are not PVC's own, and by part and our name those that are.

        What the map says of mlp1 stays with the others, under InternVL2's name.
        """
        others: dict[str, Stored] = {}
        own: dict[Part, dict[str, Stored]] = {"tower": {}, "projector": {}}
        for name, tensor in stored.items():
            found = self.find(name)
            if found is None:
                others[name] = tensor
            elif found[1].startswith("mlp1."):
                others[found[1]] = tensor
            else:
                own[found[0]][found[1]] = tensor
        return others, own

    def option(self, config: Json, name: str, where: str) -> Any:
        """What the configuration says, or the default. Errors: CheckpointError for a value that cannot be."""
        places, default = self.options[name]["config"], self.options[name]["default"]
        for place in places:
            value = _at(config, place.split("."))
            if value is not None:
                return _checked(name, value, f"{where}: {place}")
        return _checked(name, default, f"{self.file}: options.{name}.default")


def pvc_map(folder: Path) -> PvcMap:
    """That of the folder, or the bundled one. Errors: CheckpointError for a file that is no such map."""
    own = folder / NAME
    return _read(own) if own.is_file() else bundled()


@cache
def bundled() -> PvcMap:
    """The proposals."""
    return _read(BUNDLED)


def _read(file: Path) -> PvcMap:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict) or set(raw) != _KEYS or not isinstance(raw["options"], dict):
        raise CheckpointError(f"{file}: wanted a mapping with {', '.join(sorted(_KEYS))}; copy {BUNDLED}")
    if set(raw["options"]) != set(_OPTIONS):
        odd = sorted(map(str, set(raw["options"]) ^ set(_OPTIONS)))
        raise CheckpointError(f"{file}: options {', '.join(odd)} unknown or missing; copy {BUNDLED}")
    for name, option in raw["options"].items():
        if not (
            isinstance(option, dict) and set(option) == {"config", "default"} and _texts(option["config"])
        ):
            raise CheckpointError(
                f"{file}: options.{name}: wanted {{config: [a.place.in.config], default: a value}}"
            )
    if not _texts(raw["model_types"]):
        raise CheckpointError(f"{file}: model_types: wanted a list of names, as config.json has them")
    names = [line for part in OURS for line in _lines(file, part, raw[part])]
    return PvcMap(file, tuple(raw["model_types"]), tuple(names), raw["options"])


def _lines(file: Path, part: Part, lines: Any) -> list[tuple[re.Pattern[str], Part, str]]:
    """The names of one part. Errors: CheckpointError for ours that do not exist, and another number of {}."""
    if not isinstance(lines or {}, dict):
        raise CheckpointError(f"{file}: {part}: wanted lines of `ours: theirs`; copy {BUNDLED}")
    out: list[tuple[re.Pattern[str], Part, str]] = []
    for ours, theirs in (lines or {}).items():
        if ours not in OURS[part]:
            raise CheckpointError(f"{file}: {part}: {ours}: none of {', '.join(sorted(OURS[part]))}")
        if not isinstance(theirs, str) or theirs.count("{}") != ours.count("{}"):
            count = "one {}, the number of the layer" if "{}" in ours else "no {}"
            raise CheckpointError(f"{file}: {part}.{ours}: {theirs!r}, wanted a name with {count}")
        out.append((re.compile(r"(\d+)".join(map(re.escape, theirs.split("{}")))), part, ours))
    return out


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _at(config: Json, place: list[str]) -> Any:
    value: Any = config
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _checked(name: str, value: Any, where: str) -> Any:
    allowed = _OPTIONS[name]
    if name == "adaln_on" and isinstance(value, list) and set(value) <= set(PLACES):
        return value
    positive = type(value) is not int or value >= (name in ("image_repeat", "video_repeat", "time_width"))
    if name != "adaln_on" and positive and (value in allowed if _words(allowed) else type(value) in allowed):
        return value
    if value is None and None in allowed:
        return None
    wanted = f"some of {', '.join(PLACES)}" if name == "adaln_on" else _wanted(name, allowed)
    raise CheckpointError(f"{where} is {value!r}, wanted {wanted}")


def _words(allowed: tuple[Any, ...]) -> bool:
    return isinstance(allowed[0], str)


def _wanted(name: str, allowed: tuple[Any, ...]) -> str:
    if _words(allowed):
        return " or ".join(allowed)
    if name == "layers":
        return "a whole number"
    return {int: "a positive whole number", bool: "true or false"}.get(allowed[0], "a number")


# -- what a checkpoint is, by its tensors and configuration --------------------------------------------------


def pvc_facts(names: PvcMap, own: Mapping[Part, Mapping[str, Stored]], config: Json, depth: int) -> PvcFacts:
    """The options of a checkpoint of `depth` layers: as its configuration says, else as its tensors show.

    Errors: CheckpointError for values that cannot be.
    """
    where, tower = "config.json", own["tower"]

    def option(name: str) -> Any:
        return names.option(config, name, where)

    said, count = option("adaln_on"), option("layers")
    layers = tuple(sorted({int(name.split(".")[1]) for name in tower if name.startswith("layers.")}))
    if count is not None:
        if count > depth:
            raise CheckpointError(f"{where}: {count} temporal layers of a tower with {depth}")
        layers = tuple(range(depth - count, depth))
    shown = [place for place in PLACES if any(f".adaln.{place}." in name for name in tower)]
    timed, width = option("time_embed"), option("time_width")
    first = tower.get("temporal_embedder.mlp.0.weight") or own["projector"].get(
        "mlp1_temporal_embedder.mlp.0.weight"
    )
    width = width or (first.shape[-1] if first is not None else 256)
    compressor = option("compressor_adaln")
    return PvcFacts(
        layers=layers,
        adaln_on=tuple(shown if said is None else (place for place in PLACES if place in said)),
        time=option("time"),
        time_scale=float(option("time_scale")),
        time_width=width if (first is not None if timed is None else timed) else 0,
        compressor_adaln=bool(own["projector"]) if compressor is None else compressor,
        image_repeat=option("image_repeat"),
        video_repeat=option("video_repeat"),
        repeat_way=option("repeat_way"),
    )


def tower_names(facts: PvcFacts, width: int) -> dict[str, Shape]:
    """Our names and the shapes of the temporal modules of a tower of this width."""
    out = _embedder("temporal_embedder", facts.time_width, width)
    places = facts.adaln_on if facts.time_width else ()
    for number in facts.layers:
        at = f"layers.{number}"
        out |= _linear(f"{at}.temporal_attn.qkv", width, 3 * width) | {f"{at}.temporal_ls": (width,)}
        out |= _linear(f"{at}.temporal_attn.proj", width, width)
        for place in places:
            out |= _linear(f"{at}.adaln.{place}", width, 2 * width)
    return out


def compressor_names(facts: PvcFacts, width: int) -> dict[str, Shape]:
    """Our names and the shapes of what modulates a compressor of groups of this width."""
    if not (facts.compressor_adaln and facts.time_width):
        return {}
    embedder = _embedder("mlp1_temporal_embedder", facts.time_width, width)
    return embedder | _linear("mlp1_adaln", width, 2 * width)


def _embedder(name: str, inputs: int, width: int) -> dict[str, Shape]:
    if not inputs:
        return {}
    return _linear(f"{name}.mlp.0", inputs, width) | _linear(f"{name}.mlp.2", width, width)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
