"""Build native transformers modules without initialising them, and fill them from safetensors.

Modules are made on the meta device, each tensor is read once and put where it belongs, so the peak is the
model itself. Tensors are copied out of the file mapping: replacing a checkpoint never changes a loaded model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..errors import CheckpointError
from .configs import Json
from .headers import Rows, Stored
from .lora import Update, merged

_INTERN_SAME = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "norm_type",
    "layer_norm_eps", "image_size", "patch_size", "num_channels",
)  # fmt: skip


def native_tower(family: str, config: Json, dtype: torch.dtype) -> Callable[[], nn.Module]:
    """A function that makes the native CLIP, SigLIP, InternViT or Qwen2.5-VL (no merger) vision model."""
    if family == "qwen2_5_vl":
        return lambda: _qwen_tower(config, dtype)
    if family == "internvit":
        return lambda: _intern_tower(config, dtype)
    from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

    if family == "clip":
        return lambda: CLIPVisionModel(_config(CLIPVisionConfig, config, dtype))
    return lambda: SiglipVisionModel(_config(SiglipVisionConfig, {**config, "vision_use_head": False}, dtype))


def native_language(family: str, config: Json, dtype: torch.dtype) -> Callable[[], nn.Module]:
    """A function that makes the native Llama (InternLM2 too), Mistral, Qwen2 or Qwen2.5-VL language model."""
    import transformers

    if family == "qwen2_5_vl":
        return lambda: _WithHead(config, dtype)
    names = {"llama": "Llama", "internlm2": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}
    config_class = getattr(transformers, f"{names[family]}Config")
    model_class = getattr(transformers, f"{names[family]}ForCausalLM")
    return lambda: model_class(_config(config_class, config, dtype))


def _config(config_class: Any, config: Json, dtype: torch.dtype) -> Any:
    return config_class(**config, attn_implementation="sdpa", dtype=dtype)


class _WithHead(nn.Module):
    """Qwen2.5-VL's text model and head, under the names of other families' ForCausalLM."""

    def __init__(self, config: Json, dtype: torch.dtype) -> None:
        from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

        super().__init__()
        self.config = _config(Qwen2_5_VLTextConfig, config, dtype)
        self.model = Qwen2_5_VLTextModel(self.config)
        self.lm_head = nn.Linear(self.config.hidden_size, self.config.vocab_size, bias=False)


def _qwen_tower(config: Json, dtype: torch.dtype) -> nn.Module:
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    module: Any = Qwen2_5_VisionTransformerPretrainedModel(_config(Qwen2_5_VLVisionConfig, config, dtype))
    module.merger = nn.Identity()  # it is the projector
    module.rotary_pos_emb = nn.Identity()  # its interface changes between versions; QwenTower has its own
    return cast("nn.Module", module)


def _intern_tower(config: Json, dtype: torch.dtype) -> nn.Module:
    from transformers import InternVLVisionConfig, InternVLVisionModel

    native = {key: config[key] for key in _INTERN_SAME} | {
        "attention_bias": config["qkv_bias"],
        "use_qk_norm": config["qk_normalization"],
        "use_mean_pooling": True,  # else there is a final norm, which released weights lack
    }
    module: Any = InternVLVisionModel(_config(InternVLVisionConfig, native, dtype))
    if config["qk_normalization"]:
        for layer in module.encoder.layer:  # whose epsilon the native class fixes
            layer.attention.q_norm.variance_epsilon = config["layer_norm_eps"]
            layer.attention.k_norm.variance_epsilon = config["layer_norm_eps"]
    return cast("nn.Module", module)


def fill(
    make: Callable[[], nn.Module],
    tensors: Mapping[str, Stored],
    *,
    dtype: torch.dtype,
    device: str,
    prefix: str = "",
    tied: Mapping[str, str] | None = None,
    lora: Mapping[str, Update] | None = None,
    lora_alpha: float = 0.0,
) -> nn.Module:
    """The module with its weights, in eval mode, without gradients.

    tensors: by canonical name. prefix: what the module's own names may have before the canonical ones
    (`vision_model.` in some transformers versions). tied: canonical names that share another's tensor. lora:
    what is added to which tensors, in float32, `lora_alpha` / rank times.
    """
    module, lora = _made(make, tensors), lora or {}
    plain = {name: stored for name, stored in tensors.items() if name not in lora}
    read = read_tensors(plain, dtype=dtype, device=device)
    for name, update in lora.items():
        parts = {"weight": tensors[name], "down": update.down, "up": update.up}
        full = read_tensors(parts, dtype=torch.float32, device=device)
        read[name] = merged(**full, alpha=lora_alpha).to(dtype)
    for name, other in (tied or {}).items():
        read[name] = read[other]
    own = {name.removeprefix(prefix): name for name in module.state_dict()}
    module.load_state_dict({own.get(name, name): tensor for name, tensor in read.items()}, assign=True)
    for name, other in (tied or {}).items():  # one Parameter, not two over one storage
        source_name, _, leaf = other.rpartition(".")
        target = module.get_submodule(name.rpartition(".")[0])
        setattr(target, leaf, getattr(module.get_submodule(source_name), leaf))
    _restore_buffers(module, device)
    return module.eval().requires_grad_(False)


def _made(make: Callable[[], nn.Module], tensors: Mapping[str, Stored]) -> nn.Module:
    """The module without memory; a CheckpointError for a configuration that transformers refuses."""
    try:
        with torch.device("meta"):
            return make()
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # whatever the classes of transformers raise for a value
        where = next((tensor.file.parent / "config.json" for tensor in tensors.values()), "config.json")
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(
            f"{where}: transformers cannot make the model that it describes ({reason}); check its values"
        ) from error


def read_tensors(tensors: Mapping[str, Stored], *, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Read tensors into `device` memory as `dtype`, opening each file once."""
    out: dict[str, Tensor] = {}
    by_file: dict[Any, list[tuple[str, str]]] = {}
    for name, stored in tensors.items():
        by_file.setdefault(stored.file, []).append((name, stored.name))
    for file, names in by_file.items():
        try:
            with safe_open(str(file), framework="pt", device="cpu") as f:
                for name, stored_name in names:
                    part = _rows(f.get_tensor(stored_name), tensors[name].rows)
                    out[name] = part.to(device=device, dtype=dtype, copy=True)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise CheckpointError(f"{file}: cannot be read ({error})") from error
    return out


def _rows(tensor: Tensor, rows: Rows | None) -> Tensor:
    """The rows that are meant of a packed tensor."""
    if rows is None:
        return tensor
    grouped = tensor.reshape(rows.groups, -1, *tensor.shape[1:])
    return grouped[:, rows.start : rows.stop].flatten(0, 1)


def _restore_buffers(module: nn.Module, device: str) -> None:
    """Compute the buffers that no checkpoint holds: position ids and rotary frequencies (always float32)."""
    missing = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    for name in missing:
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        buffer = owner.get_buffer(leaf)
        if not buffer.is_meta:
            continue
        if leaf == "position_ids":
            setattr(owner, leaf, torch.arange(buffer.shape[-1], device=device).expand(buffer.shape))
        elif hasattr(owner, "inv_freq"):
            parent = module.get_submodule(owner_name.rpartition(".")[0])
            fresh: nn.Module = type(owner)(owner.config)
            setattr(parent, owner_name.rpartition(".")[2], fresh.to(device))
        else:
            raise RuntimeError(f"{type(module).__name__}: buffer {name} cannot be computed")
