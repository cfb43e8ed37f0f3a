"""Golden cases of InternVL2, PVC's base: InternViT, InternLM2 with its tokenizer, and whole chats."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.generate import generate
from tokenloom.nodes.models import Loaded, load_model, load_vision_tower
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.prompt import render_chat
from tokenloom.nodes.shuffle import project_pixel_shuffle
from tokenloom.runtime.context import demand
from tokenloom.runtime.models.configs import Files, language_config, read_json
from tokenloom.runtime.models.facts import language_facts
from tokenloom.runtime.models.headers import stored_in
from tokenloom.runtime.models.intern import native_language_tensors
from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.models.sections import language_section
from tokenloom.runtime.models.strict import refuse
from tokenloom.runtime.models.tokenizer_intern import internlm2_tokenizer
from tokenloom.runtime.models.weights import fill, native_language
from tokenloom.runtime.needs import Need
from tokenloom.runtime.patch_groups import whole_groups
from tokenloom.runtime.values import LLMInput, Patches, Prompt, Tile, Tiles, VisualTokens

from ..runtime.models.tiny import Held, chat_handle, language_handle
from .bare_language import greedy
from .runners import Case, runs


def pictures(pixels: torch.Tensor, tiles: list[int]) -> Tiles:
    """Pixel values [K, 3, h, w] as the tiles of pictures that have so many each."""
    size = (pixels.shape[3], pixels.shape[2])
    frames = [frame for frame, count in enumerate(tiles) for _ in range(count)]
    layout = tuple(Tile(frame=frame, box=(0, 0, *size)) for frame in frames)
    return Tiles(pixels, layout, (size,) * len(tiles), (0.0,) * len(tiles))


@runs("pvc", "InternVisionModel.forward")
def tower(case: Case) -> None:
    vision = load_vision_tower(checkpoint=str(case.weights), select_layer=-1, dtype="float32", device="cpu")
    pixels = case.inputs["pixel_values"]
    facts = vision.facts.tower
    assert facts is not None
    layers = [Need("hidden", layer) for layer in range(facts.depth + 1)]
    with demand(*layers):
        patches = encode_vision(
            vision, pictures(pixels, [1] * len(pixels)), features="cls_patch", interpolate=True
        )
    for layer, need in enumerate(layers):
        hidden = patches.side[need.key].reshape(len(pixels), -1, facts.hidden)
        case.check(hidden, f"hidden_state_{layer}" if layer else "embeddings")
    case.check(patches.features.reshape(len(pixels), -1, facts.hidden)[:, 0], "pooler_output")


def language_of(case: Case) -> Held:
    """InternLM2 alone, as a native Llama without end tokens: the cases go past the context as well."""
    raw = read_json(case.weights / "config.json")
    around: dict[str, Any] = {"model_type": "internvl_chat", "vision_config": {}, "llm_config": raw}
    files = Files(case.weights, around, {}, {}, {}, {})
    family, config = language_config(files)
    problems: list[str] = []
    section = language_section(family, config, stored_in(case.weights), problems)
    refuse(case.name, problems)
    tensors = native_language_tensors(section.tensors, config)
    make = native_language(family, config, torch.float32)
    module = fill(make, tensors, dtype=torch.float32, device="cpu", tied=section.tied)
    facts = replace(language_facts(family, config, files), eos=(), max_length=1 << 20)
    return language_handle(LanguageModel(module, facts))


def check_prompt(case: Case, llm: Held, placed: LLMInput, item: int, valid: torch.Tensor) -> None:
    """Hidden states of every layer and logits, where the mask is 1."""
    model = llm.load()
    for layer in range(model.depth):
        state = prefill(llm, placed, until=layer)
        case.check(state.hidden, case.expected[f"hidden_state_{layer}"][item, valid], f"layer {layer}")
    state = prefill(llm, placed)
    normed = model.body.norm(state.hidden)
    case.check(normed, case.expected[f"hidden_state_{model.depth}"][item, valid], "after the norm")
    logits = read_logits(llm, state, rows="all").values
    case.check(logits, case.expected["logits"][item, valid], "logits")


def language(case: Case) -> None:
    """Every item alone, padding cut off, and the greedy answer if there is one."""
    llm = language_of(case)
    for item, ids in enumerate(case.inputs["input_ids"]):
        valid = case.inputs["attention_mask"][item].bool()
        placed = place_tokens(llm, Prompt.of_ids(ids[valid].tolist()))
        case.check(placed.position, case.inputs["position_ids"][item, valid], "position_ids")
        if "inputs_embeds" in case.inputs:
            placed = replace(placed, embeds=case.inputs["inputs_embeds"][item, valid])
        check_prompt(case, llm, placed, item, valid)
        if "generated_ids" in case.expected:
            want = case.expected["generated_ids"][item]
            scores, _ = greedy(llm.load(), prefill(llm, placed), len(want))
            case.check(scores, case.expected["generated_scores"][item], "generated_scores")
            answer = generate(llm, placed, max_new_tokens=len(want)).answer
            case.check(torch.tensor(answer.ids), want, "generated_ids")


runs("pvc", "InternLM2ForCausalLM.forward")(language)
runs("pvc", "InternLM2ForCausalLM.forward and greedy .generate with KV cache")(language)


@runs("pvc", "InternLM2Tokenizer")
def tokenizer(case: Case) -> None:
    made = internlm2_tokenizer(case.folder / "tokenizer")
    for text, number in case.facts["special_ids"].items():
        assert made.convert_tokens_to_ids(text) == number
    chat = chat_handle(made, "internlm2-chat").load()
    for row in case.facts["rows"]:
        [*pieces] = chat.encode(row["text"])
        assert [i for piece in pieces for i in piece] == row["ids"], row["text"]


class ToyTokenizer:
    """The tokenizer that a case's note describes: special tokens, and a number for any other character."""

    bos_token_id, unk_token_id, unk_token = 1, None, None

    def __init__(self, note: str) -> None:
        found = re.search(r"tokens (<.*>) are (\d+)\.\.\d+, .* is (\d+) \+ codepoint % (\d+)", note)
        assert found is not None, note
        self.special = {text: int(found[2]) + i for i, text in enumerate(found[1].split())}
        self.first, self.many = int(found[3]), int(found[4])

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        parts = re.split("(" + "|".join(map(re.escape, self.special)) + ")", text)
        ids = [self.bos_token_id] * add_special_tokens
        for part in parts:
            special = self.special.get(part)
            ids += [self.first + ord(c) % self.many for c in part] if special is None else [special]
        return SimpleNamespace(input_ids=ids)

    def convert_tokens_to_ids(self, text: str) -> int | None:
        return self.special.get(text)

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return "".join(chr(97 + i % 26) for i in ids)


def check_prompt_text(case: Case, prompt: Prompt) -> None:
    """Upstream's query, each slot spelled out as <IMG_CONTEXT>."""
    text = prompt.text
    for tiles in case.facts["arguments"]["num_patches_list"]:
        text = text.replace("<image>", "<IMG_CONTEXT>" * tiles * case.facts["num_image_token"], 1)
    assert text == case.facts["query"]


def check_features(case: Case, model: Loaded, patches: Patches) -> VisualTokens:
    """The tower's layer, pixel shuffle alone, and the projected tokens."""
    facts, tiles = model.projector.facts.projector, len(patches.source.tiles)
    assert facts is not None
    case.check(patches.features.reshape(tiles, -1, patches.width), "vit_tokens")
    row_GP = whole_groups("", patches, facts.side, by_column=facts.ps_version == "v1")
    case.check(patches.features[row_GP].reshape(case.expected["pixel_shuffled"].shape), "pixel_shuffled")
    visual = project_pixel_shuffle(model.projector, patches)
    case.check(visual.features.reshape(tiles, -1, visual.width), "image_features")
    return visual


@runs("pvc", "InternVLChatModel.chat / extract_feature / pixel_shuffle / forward")
def chat(case: Case) -> None:
    asked = case.facts["arguments"]
    model = load_model(checkpoint=str(case.weights), dtype="float32", device="cpu")
    tiles = pictures(case.inputs["pixel_values"], asked["num_patches_list"])
    visual = check_features(case, model, encode_vision(model.vision, tiles))
    toy = chat_handle(ToyTokenizer(case.facts["tokenizer_note"]), "internlm2-chat")
    history = tuple(text for turn in asked["history"] or () for text in turn)
    prompt = render_chat(
        toy, question=asked["question"], history=history, images=len(asked["num_patches_list"])
    )
    check_prompt_text(case, prompt)
    placed = place_tokens(model.llm, prompt, visual)
    ids = placed.ids.masked_fill(placed.visual, case.facts["img_context_token_id"])
    case.check(ids[None], case.inputs["input_ids"], "input_ids")
    case.check(placed.embeds[None], "merged_embeds")
    case.check(read_logits(model.llm, prefill(model.llm, placed), rows="all").values[None], "logits")
    wanted = case.expected["generated_ids"][0].tolist()
    stop = asked["generation"]["eos_token_id"]
    answer = generate(model.llm, placed, max_new_tokens=len(wanted), stop_ids=(stop,)).answer
    ends = [i for i, token in enumerate(wanted) if token in (stop, *model.llm.load().facts.eos)]
    assert list(answer.ids) == wanted[: ends[0] + 1 if ends else None]
