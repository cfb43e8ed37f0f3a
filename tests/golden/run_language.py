"""Golden cases of the language half: prompts, token ids, and LLaVA end to end with and without VisionZip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.generate import generate
from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.models import Loaded, load_model
from tokenloom.nodes.pack import pack_flat, pack_spatial_unpad, pack_visionzip_next
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.project import project_mlp
from tokenloom.nodes.prompt import render_chat
from tokenloom.nodes.select import select_dominant
from tokenloom.nodes.tile import preprocess
from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import ChatFacts
from tokenloom.runtime.values import (
    Answer,
    Frames,
    LLMInput,
    Patches,
    Prompt,
    Segment,
    Tiles,
    VisualTokens,
)
from tokenloom.runtime.values.prompt import IMAGE_TOKEN_INDEX

from ..runtime.models.tiny import chat_handle, tiny_tokenizer
from .run_vision import by_score, plain_tiles, positions
from .runners import Case, runs


def tokenizer(case: Case, *, bos: bool = True) -> Any:
    """The tiny tokeniser of the case; without `bos`, the same vocabulary with no post-processor."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer.from_file(str(case.weights / "tokenizer.json"))
    if bos:
        return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    core.post_processor = processors.Sequence([])
    return PreTrainedTokenizerFast(tokenizer_object=core)


@runs("visionzip", "tokenizer_image_token")
def image_token_ids(case: Case) -> None:
    facts = ChatFacts(template="plain")
    with_bos, without = (ChatFormat(tokenizer(case, bos=bos), facts) for bos in (True, False))
    for row in case.facts["rows"]:
        assert Prompt(pieces=with_bos.encode(row["prompt"])).ids == tuple(row["ids"]), row["prompt"]
        bare = Prompt(pieces=without.encode(row["prompt"])).ids
        assert bare == tuple(row["ids_tokenizer_without_bos"]), row["prompt"]


@runs("visionzip", "conversation prompt strings")
def conversations(case: Case) -> None:
    chat = chat_handle(tiny_tokenizer())
    for row in case.facts["rows"]:
        said = [text for turn in row["turns"] for text in turn if text is not None]
        question, history = said[-1], tuple(said[:-1])
        prompt = render_chat(chat, question=question, history=history, template=row["template"], images=0)
        assert prompt.text == row["prompt"], row["template"]
        assert prompt.stop == tuple(s for s in [row["stop_string"]] if s), row["template"]
        assert len(prompt.slots) == row["prompt"].count("<image>")
        bare = [text.removeprefix("<image>\n") for text in said]
        if bare != said:  # the node puts the picture there itself
            again = render_chat(chat, question=bare[-1], history=tuple(bare[:-1]), template=row["template"])
            assert again == prompt


@dataclass(frozen=True)
class Item:
    """One sample of a batch: its ids, its pictures, and whether they are only a dummy."""

    ids: list[int]
    tiles: Tiles

    @property
    def dummy(self) -> bool:
        """Upstream feeds a text-only sample a picture that no slot takes."""
        return IMAGE_TOKEN_INDEX not in self.ids


def items_of(case: Case, model: Loaded) -> list[Item]:
    """The samples with their tiles: recorded pixels, or the raw pictures through the tile nodes."""
    out: list[Item] = []
    at = 0
    for ids in case.facts["samples"]:
        count = max(1, ids.count(IMAGE_TOKEN_INDEX))
        if "pixel_values" in case.inputs:
            tiles = plain_tiles(case.inputs["pixel_values"][at : at + count])
        else:
            pictures = tuple(case.inputs[f"raw_image.{i}"] for i in range(at, at + count))
            frames = Frames(pictures, torch.zeros(count, dtype=torch.float64))
            tiles = preprocess(model.chat, frames, aspect=case.facts["preprocess"])
            recorded = torch.cat([case.inputs[f"pixel_values.{i}"] for i in range(at, at + count)])
            assert tiles.pixels.equal(recorded), f"{case.name}: pixels"
        at += count
        out.append(Item(ids, tiles))
    return out


def stacked(parts: list[Any], tiles: int) -> Tensor:
    """[all tiles, n, D] features of several items."""
    return torch.cat([p.features for p in parts]).reshape(tiles, -1, parts[0].width)


def visual_tokens(case: Case, model: Loaded, items: list[Item], key: str) -> list[VisualTokens]:
    """The visual tokens of every item in one run, checked on the way."""
    budget, tiles = case.facts["runs"][key], sum(len(item.tiles) for item in items)
    calls = [(model.vision, item.tiles) for item in items]
    if key == "full":
        parts: list[Any] = encode_vision.many(calls)
    else:
        patches = encode_vision.many(calls, layer=-2, features="cls_patch")
        case.check(_keep_idx(patches, budget["dominant"]), f"{key}.keep_idx")
        picked = [select_dominant(p, keep=budget["dominant"]) for p in patches]
        kept = torch.cat([positions(p.kept, len(p.kept.source.tiles)) for p in picked])
        case.check(kept, case.expected[f"{key}.keep_idx"].sort(1).values)
        parts = [merge_contextual(p.kept, p.rest, targets=budget["contextual"]) for p in picked]
    visual = [project_mlp(model.projector, part) for part in parts]
    for name in ("image_features", "tile_features"):
        if f"{key}.{name}" in case.expected:
            case.check(stacked(visual, tiles), f"{key}.{name}")
    return [packed(model, v, key) for v in visual]


def _keep_idx(patches: list[Patches], keep: int) -> Tensor:
    return torch.cat([by_score(p, len(p.source.tiles), keep) for p in patches])


def packed(model: Loaded, visual: VisualTokens, key: str) -> VisualTokens:
    """The layout that the checkpoint's merge type asks for."""
    assert model.chat.facts.image is not None
    if model.chat.facts.image.merge_type == "flat":
        return pack_flat(visual)
    if key == "full":
        return pack_spatial_unpad(visual, model.projector)
    return pack_visionzip_next(visual, model.projector)


def check_inputs(case: Case, key: str, placed: list[LLMInput]) -> list[int]:
    """Embeddings, masks and spans against the padded batch; returns where each item starts in it."""
    want = case.expected[f"{key}.inputs_embeds"]
    left = case.facts["padding_side"] == "left"
    starts = [want.shape[1] - len(p) if left else 0 for p in placed]
    got, mask = torch.zeros_like(want), torch.zeros(want.shape[:2], dtype=torch.bool)
    for i, (start, p) in enumerate(zip(starts, placed, strict=True)):
        got[i, start : start + len(p)] = p.embeds
        mask[i, start : start + len(p)] = True
    case.check(got, f"{key}.inputs_embeds")
    if f"{key}.attention_mask" in case.expected:
        case.check(mask, f"{key}.attention_mask")
    for start, p, spans in zip(starts, placed, case.facts["visual_token_spans"][key], strict=True):
        assert visual_spans(p, start) == [[a, min(b, start + len(p))] for a, b in spans], f"{case.name} {key}"
    return starts


def visual_spans(placed: LLMInput, start: int) -> list[list[int]]:
    """[first, past the last] of every run of visual rows."""
    seen = (placed.segment == int(Segment.VISUAL)).to(torch.int8)
    edge = torch.cat([seen.new_zeros(1), seen, seen.new_zeros(1)]).diff()
    first, last = (edge == 1).nonzero()[:, 0], (edge == -1).nonzero()[:, 0]
    return [[start + int(a), start + int(b)] for a, b in zip(first, last, strict=True)]


def check_logits(case: Case, model: Loaded, key: str, placed: list[LLMInput], starts: list[int]) -> None:
    """Prefill logits of the true rows (for the big cases only the last 12 columns are recorded)."""
    want = case.expected[f"{key}.logits"]
    shown = case.expected[f"{key}.inputs_embeds"].shape[1] - want.shape[1]
    states = prefill.many([(model.llm, p) for p in placed])
    for i, (state, start) in enumerate(zip(states, starts, strict=True)):
        logits = read_logits(model.llm, state, rows="all").values
        first = max(shown - start, 0)
        columns = slice(start + first - shown, start + len(state) - shown)
        case.check(logits[first:], want[i, columns], f"{key}.logits of sample {i}")


@runs("visionzip", "LLaVA-1.5 end to end, original liuhaotian checkpoint layout")
@runs("visionzip", "LLaVA-NeXT anyres end to end, original liuhaotian checkpoint layout")
def end_to_end(case: Case) -> None:
    model = load_model(checkpoint=str(case.weights), dtype="float32", device="cpu")
    items = items_of(case, model)
    for key in case.facts["runs"]:
        visual = visual_tokens(case, model, items, key)
        placed = [
            place_tokens(model.llm, Prompt.of_ids(item.ids), *([] if item.dummy else [v]), truncate=True)
            for item, v in zip(items, visual, strict=True)
        ]
        starts = check_inputs(case, key, placed)
        check_logits(case, model, key, placed, starts)
        if f"{key}.greedy_tokens" in case.expected:
            answers = generate.many([(model.llm, p) for p in placed], max_new_tokens=case.facts["new_tokens"])
            check_answers(case, key, [made.answer for made in answers])


def check_answers(case: Case, key: str, answers: list[Answer]) -> None:
    """Greedy ids; an answer may end before the batch's longest one, with its end token."""
    for answer, want in zip(answers, case.expected[f"{key}.greedy_tokens"], strict=True):
        length = len(answer.ids)
        assert length == len(want) or answer.finish == "stop", f"{case.name} {key}: {length} ids"
        case.check(torch.tensor(answer.ids), want[:length], f"{key}.greedy_tokens")
