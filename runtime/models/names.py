"""Tables: where each layout keeps a tensor, and which tensors, of which shape, each family has.

Canonical names are those of the native transformers classes, without `vision_model.` for towers, and
`0.weight`, `2.weight` (or `weight`) for projectors.
"""

from __future__ import annotations

from typing import Literal

Part = Literal["tower", "image_tower", "projector", "newline", "language", "ignored"]

# First match wins. (prefix in the file, part, what the prefix becomes)
ROUTES: tuple[tuple[str, Part, str], ...] = (
    # Qwen2.5-VL; with `model.` since transformers 4.52, without as hub files have it
    ("model.visual.merger.", "projector", ""),
    ("model.visual.", "tower", ""),
    ("visual.merger.", "projector", ""),
    ("visual.", "tower", ""),
    # original LLaVA: tower inside the checkpoint (1.6 fine-tunes it), projector, newline
    ("model.vision_tower.vision_tower.vision_model.", "tower", ""),
    ("model.vision_tower.vision_tower.", "tower", ""),
    ("model.mm_projector.", "projector", ""),
    ("mm_projector.", "projector", ""),
    # llava-hf; with `model.` as transformers 5 has it in memory, without as hub files have it
    ("model.vision_tower.vision_model.", "tower", ""),
    ("model.vision_tower.", "tower", ""),
    ("vision_tower.vision_model.", "tower", ""),
    ("vision_tower.", "tower", ""),
    # Video-LLaVA has two; the one for clips is its tower
    ("model.video_tower.vision_model.", "tower", ""),
    ("model.video_tower.", "tower", ""),
    ("video_tower.vision_model.", "tower", ""),
    ("video_tower.", "tower", ""),
    ("model.image_tower.vision_model.", "image_tower", ""),
    ("model.image_tower.", "image_tower", ""),
    ("image_tower.vision_model.", "image_tower", ""),
    ("image_tower.", "image_tower", ""),
    ("model.multi_modal_projector.layer_norm.", "projector", "norm."),
    ("multi_modal_projector.layer_norm.", "projector", "norm."),
    ("model.multi_modal_projector.linear_1.", "projector", "0."),
    ("model.multi_modal_projector.linear_2.", "projector", "2."),
    ("multi_modal_projector.linear_1.", "projector", "0."),
    ("multi_modal_projector.linear_2.", "projector", "2."),
    ("model.image_newline", "newline", "image_newline"),
    ("image_newline", "newline", "image_newline"),
    # PLLaVA: the language model as peft wraps it; its LoRA layers are taken out by lora.py
    ("language_model.base_model.model.model.", "language", "model."),
    ("language_model.base_model.model.lm_head.", "language", "lm_head."),
    # InternVL as released; intern.py knows what its tensors are called natively
    ("vision_model.", "tower", ""),
    ("mlp1.", "projector", ""),
    ("language_model.output.", "language", "output."),
    ("model.language_model.model.", "language", "model."),
    ("model.language_model.lm_head.", "language", "lm_head."),
    ("model.language_model.", "language", "model."),
    ("language_model.model.", "language", "model."),
    ("language_model.lm_head.", "language", "lm_head."),
    ("language_model.", "language", "model."),
    # original LLaVA and plain language models
    ("model.", "language", "model."),
    ("lm_head.", "language", "lm_head."),
)

# A folder with a tower alone: CLIPVisionModel, or a whole CLIP / SigLIP of which the text half is left.
TOWER_ROUTES: tuple[tuple[str, Part, str], ...] = (
    ("vision_model.", "tower", ""),
    ("text_model.", "ignored", ""),
    ("text_projection.", "ignored", ""),
    ("visual_projection.", "ignored", ""),
    ("logit_scale", "ignored", ""),
    ("logit_bias", "ignored", ""),
    ("", "tower", ""),
)

# Buffers that older versions saved and that are computed now, and SigLIP's pooling head, which no VLM reads.
IGNORED = (
    "embeddings.position_ids",
    "rotary_emb.inv_freq",
    "head.probe",
    "head.attention.in_proj_weight",
    "head.attention.in_proj_bias",
    "head.attention.out_proj.weight",
    "head.attention.out_proj.bias",
    "head.layernorm.weight",
    "head.layernorm.bias",
    "head.mlp.fc1.weight",
    "head.mlp.fc1.bias",
    "head.mlp.fc2.weight",
    "head.mlp.fc2.bias",
)

# Name and shape. D hidden, F intermediate, T tokens of the position table, C channels, p patch side,
# Q and K widths of all query and key-value heads, d head width, V vocabulary. {} counts the layers.
_VIT_LAYERS = """
encoder.layers.{}.layer_norm1.weight           D
encoder.layers.{}.layer_norm1.bias             D
encoder.layers.{}.self_attn.q_proj.weight      D D
encoder.layers.{}.self_attn.q_proj.bias        D
encoder.layers.{}.self_attn.k_proj.weight      D D
encoder.layers.{}.self_attn.k_proj.bias        D
encoder.layers.{}.self_attn.v_proj.weight      D D
encoder.layers.{}.self_attn.v_proj.bias        D
encoder.layers.{}.self_attn.out_proj.weight    D D
encoder.layers.{}.self_attn.out_proj.bias      D
encoder.layers.{}.layer_norm2.weight           D
encoder.layers.{}.layer_norm2.bias             D
encoder.layers.{}.mlp.fc1.weight               F D
encoder.layers.{}.mlp.fc1.bias                 F
encoder.layers.{}.mlp.fc2.weight               D F
encoder.layers.{}.mlp.fc2.bias                 D
post_layernorm.weight                          D
post_layernorm.bias                            D
"""

_DECODER = """
model.embed_tokens.weight                                V D
model.layers.{}.input_layernorm.weight                   D
model.layers.{}.self_attn.q_proj.weight                  Q D
model.layers.{}.self_attn.k_proj.weight                  K D
model.layers.{}.self_attn.v_proj.weight                  K D
model.layers.{}.self_attn.o_proj.weight                  D Q
model.layers.{}.post_attention_layernorm.weight          D
model.layers.{}.mlp.gate_proj.weight                     F D
model.layers.{}.mlp.up_proj.weight                       F D
model.layers.{}.mlp.down_proj.weight                     D F
model.norm.weight                                        D
lm_head.weight                                           V D
"""

_QKV_BIAS = """
model.layers.{}.self_attn.q_proj.bias                    Q
model.layers.{}.self_attn.k_proj.bias                    K
model.layers.{}.self_attn.v_proj.bias                    K
"""

SHAPES = {
    "clip": """
embeddings.class_embedding                     D
embeddings.patch_embedding.weight              D C p p
embeddings.position_embedding.weight           T D
pre_layrnorm.weight                            D
pre_layrnorm.bias                              D
"""
    + _VIT_LAYERS,
    "siglip": """
embeddings.patch_embedding.weight              D C p p
embeddings.patch_embedding.bias                D
embeddings.position_embedding.weight           T D
"""
    + _VIT_LAYERS,
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": _DECODER + _QKV_BIAS,
    "qwen2_5_vl": _DECODER + _QKV_BIAS,
    # its tower: A width of queries, keys and values together, t pictures of a patch, G width of a group
    "qwen2_5_vl tower": """
patch_embed.proj.weight                        D C t p p
blocks.{}.norm1.weight                         D
blocks.{}.norm2.weight                         D
blocks.{}.attn.qkv.weight                      A D
blocks.{}.attn.qkv.bias                        A
blocks.{}.attn.proj.weight                     D D
blocks.{}.attn.proj.bias                       D
blocks.{}.mlp.gate_proj.weight                 F D
blocks.{}.mlp.gate_proj.bias                   F
blocks.{}.mlp.up_proj.weight                   F D
blocks.{}.mlp.up_proj.bias                     F
blocks.{}.mlp.down_proj.weight                 D F
blocks.{}.mlp.down_proj.bias                   D
""",
    "qwen2_5_vl merger": """
ln_q.weight                                    D
mlp.0.weight                                   G G
mlp.0.bias                                     G
mlp.2.weight                                   O G
mlp.2.bias                                     O
""",
    # O width of the language model, E of all levels together, A of queries, keys and values together
    "tokenpacker": """
q_proj_1.weight                                D D
k_proj_1.0.weight                              D E
k_proj_1.0.bias                                D
k_proj_1.2.weight                              D D
k_proj_1.2.bias                                D
v_proj_1.0.weight                              D E
v_proj_1.0.bias                                D
v_proj_1.2.weight                              D D
v_proj_1.2.bias                                D
ln_q_1.weight                                  D
ln_q_1.bias                                    D
ln_k_1.weight                                  D
ln_k_1.bias                                    D
ln_v_1.weight                                  D
ln_v_1.bias                                    D
clip_attn.in_proj_weight                       A D
clip_attn.in_proj_bias                         A
clip_attn.out_proj.weight                      D D
clip_attn.out_proj.bias                        D
mlp.0.weight                                   O D
mlp.0.bias                                     O
mlp.2.weight                                   O O
mlp.2.bias                                     O
""",
    # InternVL, by the names and in the packing of its files; intern.py turns them into native ones.
    # 1 is 1, A queries, keys and values together, W those of grouped heads, G width of a group of patches
    "internvit": """
embeddings.class_embedding                     1 1 D
embeddings.position_embedding                  1 T D
embeddings.patch_embedding.weight              D C p p
embeddings.patch_embedding.bias                D
encoder.layers.{}.attn.qkv.weight              A D
encoder.layers.{}.attn.proj.weight             D D
encoder.layers.{}.attn.proj.bias               D
encoder.layers.{}.mlp.fc1.weight               F D
encoder.layers.{}.mlp.fc1.bias                 F
encoder.layers.{}.mlp.fc2.weight               D F
encoder.layers.{}.mlp.fc2.bias                 D
encoder.layers.{}.norm1.weight                 D
encoder.layers.{}.norm2.weight                 D
encoder.layers.{}.ls1                          D
encoder.layers.{}.ls2                          D
""",
    "internvit qkv_bias": """
encoder.layers.{}.attn.qkv.bias                A
""",
    "internvit qk_normalization": """
encoder.layers.{}.attn.q_norm.weight           D
encoder.layers.{}.attn.k_norm.weight           D
""",
    "internvit layer_norm": """
encoder.layers.{}.norm1.bias                   D
encoder.layers.{}.norm2.bias                   D
""",
    "internlm2": """
model.tok_embeddings.weight                    V D
model.layers.{}.attention.wqkv.weight          W D
model.layers.{}.attention.wo.weight            D Q
model.layers.{}.feed_forward.w1.weight         F D
model.layers.{}.feed_forward.w2.weight         D F
model.layers.{}.feed_forward.w3.weight         F D
model.layers.{}.attention_norm.weight          D
model.layers.{}.ffn_norm.weight                D
model.norm.weight                              D
output.weight                                  V D
""",
    "internlm2 bias": """
model.layers.{}.attention.wqkv.bias            W
model.layers.{}.attention.wo.bias              D
""",
    "pixel_shuffle": """
0.weight                                       G
0.bias                                         G
1.weight                                       O G
1.bias                                         O
3.weight                                       O O
3.bias                                         O
""",
    # options of the configuration
    "attention_bias": _QKV_BIAS + "model.layers.{}.self_attn.o_proj.bias                    D\n",
    "mlp_bias": """
model.layers.{}.mlp.gate_proj.bias                       F
model.layers.{}.mlp.up_proj.bias                         F
model.layers.{}.mlp.down_proj.bias                       D
""",
}


def route(name: str, routes: tuple[tuple[str, Part, str], ...] = ROUTES) -> tuple[Part, str] | None:
    """Part and canonical name of a stored tensor, or None when no table knows it."""
    if name.endswith(IGNORED):
        return "ignored", name
    for prefix, part, becomes in routes:
        if name.startswith(prefix):
            return part, becomes + name[len(prefix) :].replace(".base_layer.", ".")  # peft's, around LoRA
    return None


def shapes(table: str, sizes: dict[str, int], depth: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of one table of SHAPES with its numbers filled in."""
    out: dict[str, tuple[int, ...]] = {}
    for line in SHAPES[table].split("\n"):
        if not line.strip():
            continue
        name, *axes = line.split()
        shape = tuple(sizes[axis] for axis in axes)
        for layer in range(depth) if "{}" in name else (0,):
            out[name.format(layer)] = shape
    return out
