"""Strict loading: what a part must hold against what the files hold, every difference named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import CheckpointError
from .configs import Json
from .handle import ProjectorFacts
from .headers import Stored
from .intern import native_tower_tensors
from .names import shapes

Shape = tuple[int, ...]


def tower_shapes(family: str, config: Json) -> dict[str, Shape]:
    """Names and shapes of a CLIP, SigLIP or Qwen2.5-VL tower with this configuration."""
    if family == "qwen2_5_vl":
        width = config["hidden_size"]
        sizes = {"D": width, "A": 3 * width, "F": config["intermediate_size"], "C": config["in_channels"]}
        sizes |= {"t": config["temporal_patch_size"], "p": config["patch_size"]}
        return shapes("qwen2_5_vl tower", sizes, config["depth"])
    patches = (config["image_size"] // config["patch_size"]) ** 2
    sizes = {
        "D": config["hidden_size"],
        "F": config["intermediate_size"],
        "T": patches + (family in ("clip", "internvit")),
        "C": config["num_channels"],
        "p": config["patch_size"],
    }
    if family == "internvit":
        return _internvit_shapes(config, sizes | {"1": 1, "A": 3 * config["hidden_size"]})
    return shapes(family, sizes, config["num_hidden_layers"])


def _internvit_shapes(config: Json, sizes: dict[str, int]) -> dict[str, Shape]:
    """By the names of released files, or native ones, with what the configuration asks for."""
    parts = ["internvit"]
    parts += [f"internvit {key}" for key in ("qkv_bias", "qk_normalization") if config[key]]
    parts += ["internvit layer_norm"] * (config["norm_type"] == "layer_norm")
    out: dict[str, Shape] = {}
    for part in parts:
        out |= shapes(part, sizes, config["num_hidden_layers"])
    if not config["native"]:
        return out
    stored = {name: Stored(name, Path(), "", shape) for name, shape in out.items()}
    return {name: tensor.shape for name, tensor in native_tower_tensors(stored).items()}


def language_shapes(family: str, config: Json) -> dict[str, Shape]:
    """Names and shapes of a Llama, Mistral, Qwen2, Qwen2.5-VL or InternLM2 (in its files' own packing)."""
    width, depth = config["head_dim"], config["num_hidden_layers"]
    sizes = {
        "D": config["hidden_size"],
        "F": config["intermediate_size"],
        "V": config["vocab_size"],
        "Q": width * config["num_attention_heads"],
        "K": width * config["num_key_value_heads"],
    }
    if family == "internlm2":
        sizes["W"] = sizes["Q"] + 2 * sizes["K"]
        bias = shapes("internlm2 bias", sizes, depth) if config["attention_bias"] else {}
        return shapes(family, sizes, depth) | bias
    out = shapes(family, sizes, depth)
    for option in ("attention_bias", "mlp_bias"):
        if family == "llama" and config.get(option):
            out |= shapes(option, sizes, depth)
    return out


def projector_shapes(kind: str, inputs: int, outputs: int, levels: int = 4) -> dict[str, Shape]:
    """Names and shapes of `linear`, `mlp2x_gelu`, ..., `merger2x2`, `tokenpacker` or `identity`.

    levels: layers of the tower that a tokenpacker reads. For `pixel_shuffle`, inputs: of a group of patches.
    """
    if kind == "pixel_shuffle":
        return shapes("pixel_shuffle", {"G": inputs, "O": outputs}, 1)
    if merge := ProjectorFacts(kind=kind, inputs=inputs, outputs=outputs).merge:
        return shapes("qwen2_5_vl merger", {"D": inputs, "G": merge**2 * inputs, "O": outputs}, 1)
    if kind == "tokenpacker":
        sizes = {"D": inputs, "E": levels * inputs, "A": 3 * inputs, "O": outputs}
        return shapes("tokenpacker", sizes, 1)
    if kind == "identity":
        return {}
    if kind == "linear":
        return {"weight": (outputs, inputs), "bias": (outputs,)}
    out: dict[str, Shape] = {}
    for i in range(linears(kind)):
        out[f"{2 * i}.weight"] = (outputs, outputs if i else inputs)
        out[f"{2 * i}.bias"] = (outputs,)
    return out


def linears(kind: str) -> int:
    """How many linear layers a projector kind has; a CheckpointError for an unknown kind."""
    if kind in ("linear", "identity"):
        return int(kind == "linear")
    if m := re.fullmatch(r"mlp([1-9])x_gelu", kind):
        return int(m[1])
    raise CheckpointError(
        f"projector type {kind!r} is not known; known: linear, identity, mlp1x_gelu to mlp9x_gelu"
    )


def compare(part: str, wanted: Mapping[str, Shape], found: Mapping[str, Stored]) -> list[str]:
    """One sentence for each kind of difference; empty when the files hold exactly what is wanted."""
    missing = {name: shape for name, shape in wanted.items() if name not in found}
    unknown = {found[name].name: found[name].shape for name in found if name not in wanted}
    wrong = {
        f"{found[name].name}": f"{list(found[name].shape)}, wanted {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    }
    kinds = {
        found[name].name: f"{found[name].dtype}, wanted floats"
        for name in wanted
        if name in found and not found[name].dtype.startswith(("F", "BF"))
    }
    out = [
        f"{len(group)} {'tensor' if len(group) == 1 else 'tensors'} of the {part} {what}: {fold(group)}"
        for what, group in (("missing", missing), ("unknown", unknown))
        if group
    ]
    if wrong:
        out.append(f"wrong shapes in the {part}: {fold(wrong)}")
    if kinds:  # quantised weights are numbers of another kind
        out.append(f"wrong dtypes in the {part}: {fold(kinds)}")
    return out


def refuse(where: str, problems: list[str]) -> None:
    """Raise one CheckpointError with all problems, if there are any."""
    if problems:
        text = "\n  ".join(problems)
        raise CheckpointError(
            f"{where}: the weights are not what the configuration says:\n  {text}\n"
            f"Check that config.json and the weight files belong together."
        )


def fold(tensors: Mapping[str, Shape | str]) -> str:
    """`model.layers.{0..31}.norm.weight [4096], lm_head.weight [32000, 4096]`."""
    groups: dict[tuple[str, str], list[tuple[int, ...]]] = {}
    for name, shape in tensors.items():
        text = shape if isinstance(shape, str) else str(list(shape))
        numbers = tuple(int(n) for n in re.findall(r"(?<=\.)\d+(?=\.)", name))
        groups.setdefault((re.sub(r"(?<=\.)\d+(?=\.)", "{}", name), text), []).append(numbers)
    return ", ".join(
        f"{template.format(*map(span, zip(*numbers, strict=True)))} {text}"
        for (template, text), numbers in groups.items()
    )


def span(numbers: Iterable[int]) -> str:
    """`7`, `{0..31}` or `{0,3,5}`."""
    values = sorted(set(numbers))
    if len(values) == 1:
        return str(values[0])
    if values == list(range(values[0], values[-1] + 1)):
        return f"{{{values[0]}..{values[-1]}}}"
    return f"{{{','.join(map(str, values))}}}"
