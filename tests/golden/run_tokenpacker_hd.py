"""Golden cases of TokenPacker-HD: grids, crops, assembly, pictures to answers; single views."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokenloom.nodes.assemble import Assembled, assemble_hd
from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.models import Loaded, load_model
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.prompt import render_chat
from tokenloom.nodes.slice_hd import slice_hd
from tokenloom.nodes.tile import preprocess
from tokenloom.nodes.tokenpacker import project_tokenpacker
from tokenloom.runtime.context import demand
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.needs import Need
from tokenloom.runtime.slicing import Slicing, candidates, cut_of, merits
from tokenloom.runtime.values import Frames, Kind, LLMInput, Prompt, Source, Tiles, VisualTokens
from tokenloom.runtime.values.prompt import IMAGE_TOKEN_INDEX

from ..handles import image_handle
from ..hd import hd_tiles, spelt_language, spelt_tokenizer
from ..runtime.models.tiny import Held, chat_handle
from .bare_language import greedy
from .run_tokenpacker_train import check_expansion
from .runners import Case, runs

LEVELS = (12, 16, 22, 23)  # of the released projector


@runs("tokenpacker", "llava.patch_divide.Image_Patch")
def grids(case: Case) -> None:
    asked = case.facts["hyperparameters"]
    for most in asked["patch_num"]:
        told = [tuple(grid) for grid in case.facts["candidate_lists"][str(most)]]
        assert list(candidates(most)) == list(dict.fromkeys(told)), f"{case.name}: candidates of {most}"
        how = Slicing(side=asked["image_size"], most=most)
        sizes = [(width, height) for height, width in case.inputs["sizes"].tolist()]
        cuts = [cut_of(size, how) for size in sizes]
        case.check(torch.tensor([cut.grid for cut in cuts]), f"grid_{most}")
        case.check(torch.tensor([cut.scaled[::-1] for cut in cuts]), f"resized_hw_{most}")
        whole = torch.tensor([(cut.whole or (0, 0))[::-1] for cut in cuts])
        case.check(whole, f"global_hw_{most}")
        found = [merits(size, most, how.side) for size in sizes]
        best = [m.grids.index(cut.grid) for m, cut in zip(found, cuts, strict=True)]
        for name in ("fill", "iou", "score"):
            got = [float(getattr(m, name)[i]) for m, i in zip(found, best, strict=True)]
            case.check(torch.tensor(got, dtype=torch.float64), f"{name}_{most}")
        top = torch.stack([torch.from_numpy(m.score).double().topk(2).values for m in found])
        case.check(top[:, 0] - top[:, 1], f"margin_{most}")


@runs(
    "tokenpacker",
    'llava.train.train.LazySupervisedDataset.__getitem__ with data_args.image_aspect_ratio="slice"',
)
def crops(case: Case) -> None:
    asked, wanted = case.facts["hyperparameters"], case.expected
    facts = ImageFacts(
        size=asked["block_size"],
        mean=tuple(asked["mean"]),
        std=tuple(asked["std"]),
        aspect="slice",
        patch_num=asked["patch_num"],
    )
    chat, frames = image_handle(facts), frames_of(case)
    tiles = slice_hd(chat, frames)
    assert preprocess(chat, frames).pixels.equal(tiles.pixels)
    cut = cut_of(frames.sizes[0], Slicing.of(facts))
    check_layout(case, tiles)
    case.check(torch.tensor(cut.scaled[::-1]), "resized_hw")
    case.check(torch.tensor((cut.whole or (0, 0))[::-1]), "global_hw")
    case.check(torch.tensor(len(tiles)), "num_crops")
    case.check(tiles.pixels[..., ::8, ::8], "crops_stride8")
    case.check(edges(tiles.pixels), "crops_edges")
    double = tiles.pixels.double().flatten(1)
    case.check(double.mean(1), "crop_mean")
    case.check(double.std(1, correction=0), "crop_std")
    case.check(double.abs().sum(1), "crop_abs_sum")
    if "crop0_full" in wanted:
        case.check(tiles.pixels[0], "crop0_full")
    if "global_from_image_stride8" in wanted:
        other = slice_hd(chat, frames, global_source="image")
        assert other.pixels[:-1].equal(tiles.pixels[:-1])
        case.check(other.pixels[-1:, :, ::8, ::8], "global_from_image_stride8")
        case.check((other.pixels[-1] - tiles.pixels[-1]).abs().max(), "global_difference_max")


@runs("tokenpacker", "LazySupervisedDataset.__getitem__ and llava.mm_utils.process_images")
def single_view(case: Case) -> None:
    asked = case.facts["hyperparameters"]
    facts = ImageFacts(size=asked["size"], mean=tuple(asked["mean"]), std=tuple(asked["std"]))
    chat = image_handle(replace(facts, aspect=asked["image_aspect_ratio"]))
    pixels = preprocess(chat, frames_of(case)).pixels
    assert preprocess(image_handle(facts), frames_of(case), aspect=asked["image_aspect_ratio"]).pixels.equal(
        pixels
    )
    case.check(pixels[..., ::4, ::4], "pixel_values_stride4")
    case.check(edges(pixels), "edges")
    case.check(pixels.double().mean(), "mean")
    case.check(pixels.double().std(correction=0), "std")
    case.check(pixels.double().abs().sum(), "abs_sum")


@runs("tokenpacker", "LlavaMetaForCausalLM.prepare_inputs_labels_for_multimodal")
def assembly(case: Case) -> None:
    given, asked = case.inputs, case.facts["hyperparameters"]
    comma, newline = (asked["separator_ids"][key] for key in (",", "\\n"))
    llm = spelt_language(given["embed_tokens"])
    chat = chat_handle(spelt_tokenizer({",": comma, "\n": newline}, len(given["embed_tokens"])))
    sliced, at, placed = asked["mode"] == "slice", 0, list[LLMInput]()
    for b, ids in enumerate(texts(case)):
        grid = (int(given["h_block"][b]), int(given["w_block"][b])) if sliced else (1, 1)
        marks = ids.count(IMAGE_TOKEN_INDEX)
        source = Source(hd_tiles(*[grid] * max(marks, 1)), 1, asked["tokens_per_crop"])
        features = given["image_features"][at : at + len(source.tiles)]
        at += len(features)  # one entry of a sample without pictures, too
        visual = [VisualTokens.of_patches(source, features.flatten(0, 1))] if marks else []
        if sliced:
            made = [assemble_hd(llm, tokens, chat) for tokens in visual]
            assert all(separator_ids(m) == [comma, newline] for m in made)
            visual = [m.tokens for m in made]
        placed.append(place_tokens(llm, Prompt.of_ids(ids), *visual))
    assert at == len(given["image_features"])
    check_rows(case, placed, "")
    if "labels" in case.expected:
        got = torch.full_like(case.expected["labels"], -100)
        for b, inputs in enumerate(placed):
            text = given["labels"][b][given["attention_mask"][b]]
            rows = got[b, : len(inputs)]
            rows[inputs.wire < 0] = text[
                given["input_ids"][b][given["attention_mask"][b]] != IMAGE_TOKEN_INDEX
            ]
        case.check(got, "labels")
    if "mode_none_inputs_embeds" in case.expected:
        check_recognised(case, llm)
    check_expansion(case)


def check_recognised(case: Case, llm: Held) -> None:
    """What upstream makes when its collator has lost `mode`: one crop per mark, counted over the whole batch.

    No target: shown so that whoever meets such tokens knows them. The k-th mark (or sample without one) gets
    the k-th feature of the batch, whosever crop that is, and there are no separators.
    """
    taken, placed = 0, list[LLMInput]()
    for ids in texts(case):
        marks = ids.count(IMAGE_TOKEN_INDEX)
        features = case.inputs["image_features"][taken : taken + marks]
        taken += max(marks, 1)
        source = Source(hd_tiles(*[(1, 1)] * max(marks, 1)), 1, features.shape[1])
        visual = [VisualTokens.of_patches(source, features.flatten(0, 1))] if marks else []
        placed.append(place_tokens(llm, Prompt.of_ids(ids), *visual))
    check_rows(case, placed, "mode_none_")


@runs("tokenpacker", 'slice preprocessing -> LlavaLlamaForCausalLM.forward / generate with mode="slice"')
def end_to_end(case: Case) -> None:
    asked, wanted = case.facts["hyperparameters"], case.expected
    model = load_model(checkpoint=str(case.weights / "llava"), dtype="float32", device="cpu")
    tiles = slice_hd(model.chat, frames_of(case))
    assert tiles.pixels.equal(preprocess(model.chat, frames_of(case)).pixels)
    check_layout(case, tiles)
    case.check(tiles.pixels[..., ::8, ::8], "crops_stride8")
    with demand(*(Need("hidden", level) for level in LEVELS)):
        patches = encode_vision(model.vision, tiles)
    visual = project_tokenpacker(model.projector, patches)
    case.check(visual.features.reshape(wanted["image_features"].shape), "image_features")

    prompt = render_chat(model.chat, question=case.facts["question"], template=asked["conv_mode"], images=1)
    assert prompt.text == case.facts["prompt"]
    case.check(torch.tensor(prompt.ids), "input_ids")
    case.check(torch.tensor(prompt.ids.index(IMAGE_TOKEN_INDEX)), "image_position")
    made = assemble_hd(model.llm, visual, model.chat)
    case.check(torch.tensor(separator_ids(made)), "separator_ids")
    case.check(source_map(model, made), "source_map")

    placed = place_tokens(model.llm, prompt, made.tokens)
    case.check(torch.tensor(len(placed)), "seq_len")
    first, tail = wanted["inputs_embeds_first_row"], wanted["inputs_embeds_tail"]
    case.check(placed.embeds[None, : first.shape[1]], first, "inputs_embeds_first_row")
    case.check(placed.embeds[None, -tail.shape[1] :], tail, "inputs_embeds_tail")
    check_logits(case, model, placed)


def check_logits(case: Case, model: Loaded, placed: LLMInput) -> None:
    """Logits of the prompt's rows, and the answer token by token."""
    state = prefill(model.llm, placed)
    logits = read_logits(model.llm, state, rows="all").values[None]
    case.check(logits[:, -8:], "prefill_logits_last8")
    case.check(logits[:, ::64], "prefill_logits_stride64")
    case.check(logits[:, -32:].argmax(-1), "prefill_argmax_last32")
    scores, ids = greedy(model.llm.load(), state, case.expected["greedy_tokens"].shape[1])
    case.check(ids[None], "greedy_tokens")
    case.check(scores[None], "greedy_scores")


def separator_ids(made: Assembled) -> list[Any]:
    """Ids of the separators as the node recorded them: between crops, and after rows."""
    at = made.separators.columns.index("id")
    return [row[at] for row in made.separators.rows]


def source_map(model: Loaded, made: Assembled) -> Tensor:
    """[N] long: the crop of every token; -1 and -2 for the embeddings of the two separators."""
    tokens, embeds = made.tokens, model.llm.load().embed(torch.tensor(separator_ids(made)))
    out = tokens.home.clone()
    for number, embed in enumerate(embeds):
        found = (tokens.features == embed).all(1)
        assert (tokens.kind[found] == int(Kind.SEPARATOR)).all()
        out[found] = -1 - number
    assert bool((out < 0).equal(tokens.kind == int(Kind.SEPARATOR)))
    return out


def frames_of(case: Case) -> Frames:
    """The picture of the case."""
    return Frames((case.inputs["image"],), torch.zeros(1, dtype=torch.float64))


def check_layout(case: Case, tiles: Tiles) -> None:
    """The tiles are the grid row by row, and then the global view if there is more than one."""
    rows, cols = case.expected["grid"].tolist()
    want = [(row, col, False) for row in range(rows) for col in range(cols)]
    want += [(0, 0, True)] * (rows * cols > 1)
    assert [(tile.row, tile.col, tile.whole) for tile in tiles.layout] == want


def edges(pixels: Tensor) -> Tensor:
    """[K, 3, 4, S]: first row, last row, first column, last column."""
    return torch.stack([pixels[:, :, 0], pixels[:, :, -1], pixels[..., 0], pixels[..., -1]], 2)


def texts(case: Case) -> list[list[int]]:
    """The ids of every sample, without padding."""
    pairs = zip(case.inputs["input_ids"], case.inputs["attention_mask"], strict=True)
    return [ids[mask].tolist() for ids, mask in pairs]


def check_rows(case: Case, placed: list[LLMInput], prefix: str) -> None:
    """Embeddings and mask of a batch that is padded on the right, item by item.

    Padding is left out: upstream embeds the padding of the ids, and fills up with zeros what it adds itself.
    """
    want = case.expected[f"{prefix}inputs_embeds"]
    got, mask = torch.zeros_like(want), torch.zeros(want.shape[:2], dtype=torch.bool)
    for b, inputs in enumerate(placed):
        got[b, : len(inputs)], mask[b, : len(inputs)] = inputs.embeds, True
    case.check(got, want * mask[..., None], f"{prefix}inputs_embeds")
    case.check(mask, f"{prefix}attention_mask")
