"""InternVL's own names and packing: where the tensors of native modules lie in a released checkpoint."""

# H = query heads, K = key-value heads, G = H / K

from __future__ import annotations

from collections.abc import Mapping

from .configs import Json
from .headers import Rows, Stored

TOWER = (
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.position_embedding", "embeddings.position_embeddings"),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
    ("encoder.layers.", "encoder.layer."),
    (".attn.proj.", ".attention.projection_layer."),
    (".attn.", ".attention."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".ls1", ".lambda_1"),
    (".ls2", ".lambda_2"),
)
LANGUAGE = (
    ("model.tok_embeddings.", "model.embed_tokens."),
    (".attention.wo.", ".self_attn.o_proj."),
    (".attention.", ".self_attn."),
    (".feed_forward.w1.", ".mlp.gate_proj."),
    (".feed_forward.w3.", ".mlp.up_proj."),
    (".feed_forward.w2.", ".mlp.down_proj."),
    (".attention_norm.", ".input_layernorm."),
    (".ffn_norm.", ".post_attention_layernorm."),
)


def native_tower_tensors(found: Mapping[str, Stored]) -> dict[str, Stored]:
    """By the names of InternVLVisionModel; queries, keys and values are three blocks of one tensor."""
    out: dict[str, Stored] = {}
    for name, stored in found.items():
        native = _renamed(name, TOWER)
        if ".attention.qkv." not in native:
            out[native] = stored
            continue
        width = stored.shape[0] // 3
        for i, part in enumerate("qkv"):
            out[native.replace(".qkv.", f".{part}_proj.")] = stored.part(Rows(1, i * width, (i + 1) * width))
    return out


def native_language_tensors(found: Mapping[str, Stored], config: Json) -> dict[str, Stored]:
    """By the names of LlamaForCausalLM. `wqkv` holds, for each key-value head, its G queries, key, value."""
    out: dict[str, Stored] = {}
    groups, width = config["num_key_value_heads"], config["head_dim"]
    queries = config["num_attention_heads"] // groups * width
    spans = {"q": (0, queries), "k": (queries, queries + width), "v": (queries + width, queries + 2 * width)}
    for name, stored in found.items():
        native = (
            name.replace("output.", "lm_head.") if name.startswith("output.") else _renamed(name, LANGUAGE)
        )
        if ".self_attn.wqkv." not in native:
            out[native] = stored
            continue
        for part, (start, stop) in spans.items():
            out[native.replace(".wqkv.", f".{part}_proj.")] = stored.part(Rows(groups, start, stop))
    return out


def _renamed(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for ours, native in table:
        name = name.replace(ours, native)
    return name
