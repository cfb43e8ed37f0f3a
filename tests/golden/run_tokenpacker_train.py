"""Golden cases of TokenPacker's training: samples and labels, the order of samples, and optimiser steps."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.models import Loaded, load_model
from tokenloom.nodes.tile import preprocess
from tokenloom.runtime.context import demand
from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.facts import CLIP_MEAN, CLIP_STD
from tokenloom.runtime.models.handle import ChatFacts, ImageFacts
from tokenloom.runtime.models.packer import RELEASED as LEVELS
from tokenloom.runtime.needs import Need
from tokenloom.runtime.training.batch import Batch, Pictures, collate
from tokenloom.runtime.training.conversation import Conversation, read_conversation
from tokenloom.runtime.training.expand import Expansion, expand, separators
from tokenloom.runtime.training.groups import adamw, parameter_groups
from tokenloom.runtime.training.labels import IGNORE, Example, label, pad_id
from tokenloom.runtime.training.loss import last_hidden, next_token_loss
from tokenloom.runtime.training.rates import cosine_schedule
from tokenloom.runtime.training.sampler import length_grouped_order, modality_grouped_order
from tokenloom.runtime.values import Frames, Tile, Tiles
from tokenloom.runtime.values.prompt import IMAGE_TOKEN_INDEX

from ..handles import image_handle
from .runners import Case, runs


@runs("tokenpacker", "LazySupervisedDataset.__getitem__")
def samples_and_labels(case: Case) -> None:
    asked = case.facts["hyperparameters"]
    chat = chat_of(case)
    samples = [read_conversation(entry) for entry in case.facts["samples"]]
    examples = labelled(case, chat, samples)
    for i, example in enumerate(examples):
        case.check(example.ids, f"input_ids_{i}")
        case.check(example.labels, f"labels_{i}")
    told = [f"WARNING: {e.mismatch}. (ignored)" for e in examples if e.mismatch]
    assert told == case.facts["warnings_printed"], told
    case.check(torch.tensor([s.signed_words for s in samples]), "modality_lengths")
    case.check(torch.tensor([s.length for s in samples]), "lengths")

    *_, side = case.expected["images_shape"].tolist()
    sizes = [None if hw is None else torch.zeros(*hw, 3, dtype=torch.uint8) for hw in case.facts["image_hw"]]
    pictures = prepared(case, sizes, ImageFacts(size=side, mean=CLIP_MEAN, std=CLIP_STD))
    batch = collate(examples, pictures, pad=pad_id(chat), max_length=asked["model_max_length"])
    case.check(batch.ids, "batch_input_ids")
    case.check(batch.labels, "batch_labels")
    case.check(batch.mask, "batch_attention_mask")
    check_pictures(case, pictures)
    crops = [1 if p is None else len(p.tiles) for p in pictures]  # a dummy for text, as released
    case.check(torch.tensor(crops), "num_crops")
    shape = (sum(crops), *(batch.tiles.pixels.shape[1:] if batch.tiles is not None else (3, side, side)))
    case.check(torch.tensor(shape), "images_shape")


@runs("tokenpacker", "get_modality_length_grouped_indices / get_length_grouped_indices")
def order_of_samples(case: Case) -> None:
    lengths = case.inputs["lengths"].abs().tolist()
    visual = (case.inputs["lengths"] > 0).tolist()
    asked, seed = case.facts["hyperparameters"], case.facts["seed"]
    batch, world = asked["batch_size"], asked["world_size"]
    # the tolerance note of the case: "given torch.manual_seed(seed) immediately before"
    offset = int(
        re.findall(r"generator seeded seed\+(\d+)", case.facts["tensors"]["modality_indices_with_generator"])[
            0
        ]
    )
    generator = torch.Generator().manual_seed(seed + offset)
    for name, given in (("modality_indices", None), ("modality_indices_with_generator", generator)):
        torch.manual_seed(seed)
        order = modality_grouped_order(lengths, visual, batch=batch, world=world, generator=given)
        case.check(torch.tensor(order), name)
    torch.manual_seed(seed)
    order = length_grouped_order(lengths, batch=batch, world=world)
    case.check(torch.tensor(order), "length_indices")


@runs(
    "tokenpacker",
    "LazySupervisedDataset -> DataCollatorForSupervisedDataset -> LlavaLlamaForCausalLM.forward",
)
def optimiser_steps(case: Case) -> None:
    asked, wanted = case.facts["hyperparameters"], case.expected
    model = load_model(checkpoint=str(case.weights / "llava"), dtype="float32", device="cpu")
    batch = batch_of(case, model)
    patches = leveled(model, batch)
    projector: Any = copy.deepcopy(model.projector.load().module)
    lm: Any = copy.deepcopy(model.llm.load().module)
    projector.requires_grad_(True).train()
    lm.requires_grad_(asked["stage"] == 2).train()
    named = [(f"model.mm_projector.{name}", p) for name, p in projector.named_parameters()]
    named += list(lm.named_parameters())
    optimiser = adamw(parameter_groups(named, lr=asked["lr"]))
    warmup, steps = map(int, re.findall(r"steps=(\d+)", asked["schedule"]))
    schedule = cosine_schedule(optimiser, steps=steps, warmup=warmup)
    rows = None
    seen: dict[str, list[Any]] = {"losses": [], "learning_rates": [], "grad_norms": []}
    for step in range(steps):
        visual = projector(*patches, scale=asked["scale_factor"])
        rows = rows or expand(batch, torch.full((len(visual),), visual.shape[1]), behind(case, model, batch))
        hidden = last_hidden(lm, rows.embeds(lm.model.embed_tokens, visual.flatten(0, 1)), rows.mask)
        loss = next_token_loss(hidden, rows.labels, lm.lm_head)
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            check_rows(case, rows, "expanded_labels", "expanded_attention_mask")
            check_last_logits(case, rows, lm.lm_head(hidden))
            check_parameters(case, "grad0.", {n: p.grad for n, p in named if p.grad is not None})
        norm = torch.nn.utils.get_total_norm([p.grad for _, p in named if p.grad is not None])
        for name, value in zip(seen, (loss.detach(), schedule.get_last_lr()[0], norm), strict=True):
            seen[name].append(value)
        optimiser.step()
        schedule.step()
    for name, values in seen.items():
        case.check(torch.tensor(values, dtype=wanted[name].dtype), name)
    check_parameters(case, "after.", {name: p.detach() for name, p in named})


def batch_of(case: Case, model: Loaded) -> Batch:
    """The samples of the case, labelled, their pictures prepared, and collated."""
    chat, image = model.chat.load(), model.chat.facts.image
    assert image is not None
    entries = case.facts["samples"]
    examples = labelled(case, chat, [read_conversation(entry) for entry in entries])
    images = [case.inputs.get(f"image_{i}") for i in range(len(entries))]
    pictures = prepared(case, images, image)
    check_pictures(case, pictures)
    batch = collate(examples, pictures, pad=pad_id(chat))
    case.check(batch.ids, "input_ids")
    case.check(batch.labels, "labels")
    return batch


def leveled(model: Loaded, batch: Batch) -> tuple[Tensor, Tensor]:
    """[K, R, C, D] and [K, R, C, L * D]: what the projector reads of the frozen tower."""
    assert batch.tiles is not None
    needs = [Need("hidden", layer) for layer in LEVELS]
    with demand(*needs):
        patches = encode_vision(model.vision, batch.tiles)
    shape = (len(batch.tiles), patches.source.rows, patches.source.cols, -1)
    levels = torch.cat([patches.side[need.key] for need in needs], -1)
    return patches.features.view(shape), levels.view(shape)


def behind(case: Case, model: Loaded, batch: Batch) -> Tensor:
    """The separators of sliced pictures, spelt as the released code looks them up."""
    find = model.chat.load().tokenizer.convert_tokens_to_ids
    return separators(batch, comma=find(","), newline=find("\n"))


def check_last_logits(case: Case, rows: Expansion, logits: Tensor) -> None:
    """Scores at the last four columns, in samples that reach so far."""
    wanted, width = case.expected["logits0_last4"], case.expected["expanded_labels"].shape[1]
    columns = range(width - wanted.shape[1], width)
    at = [(b, c) for b in range(len(logits)) for c in columns if c < rows.mask.shape[1] and rows.mask[b, c]]
    assert at
    got = torch.stack([logits[b, c] for b, c in at])
    case.check(got, torch.stack([wanted[b, c - columns[0]] for b, c in at]), "logits0_last4")


def check_parameters(case: Case, prefix: str, got: Mapping[str, Tensor]) -> None:
    """Relative to each tensor's maximum, without those whose gradient is rounding noise (the case's note)."""
    names = [name for name in case.expected if name.startswith(prefix)]
    assert names
    for name in names:
        ours, theirs = got[name.removeprefix(prefix)], case.expected[name]
        if name.endswith("ln_k_1.bias"):
            continue
        if name.endswith("clip_attn.in_proj_bias"):  # the middle third is the keys'
            ours, theirs = (torch.stack(x.chunk(3))[[0, 2]] for x in (ours, theirs))
        top = theirs.abs().max()
        case.check(ours / top, theirs / top, name)


def check_expansion(case: Case) -> None:
    """Given ids and features, as training assembles them, against prepare_inputs_labels_for_multimodal.

    Whoever runs that kind of case calls this beside the nodes.
    """
    given, asked = case.inputs, case.facts["hyperparameters"]
    sliced, (comma, newline) = asked["mode"] == "slice", asked["separator_ids"].values()
    marks = (given["input_ids"] == IMAGE_TOKEN_INDEX).sum(1).tolist()
    blocks = torch.stack([given["h_block"], given["w_block"]], 1).tolist()
    grids = [(rows, cols) for count, (rows, cols) in zip(marks, blocks, strict=True) for _ in range(count)]
    crops = [n + (n > 1) for n in (r * c if sliced else 1 for r, c in grids)]
    used = [x for count, n in zip(marks, _shares(marks, crops), strict=True) for x in [True] * n or [False]]
    visual = given["image_features"][
        torch.tensor(used)
    ]  # without the dummies of samples that have no picture
    labels = given.get("labels", given["input_ids"])
    batch = Batch(
        ids=given["input_ids"],
        labels=labels,
        mask=given["attention_mask"],
        tiles=tiles_of(grids, sliced) if grids else None,
        grids=tuple(grids) if sliced else (None,) * len(grids),
        pictures=tuple(marks),
    )
    counts = torch.full((len(visual),), visual.shape[1])
    made = expand(batch, counts, separators(batch, comma=comma, newline=newline))
    table = torch.nn.Embedding.from_pretrained(given["embed_tokens"])
    check_rows(case, made, "labels" if "labels" in case.expected else None, "attention_mask")
    embeds, wanted = made.embeds(table, visual.flatten(0, 1)), case.expected["inputs_embeds"]
    real = made.mask[..., None]
    case.check(embeds * real, wanted[:, : embeds.shape[1]] * real, "inputs_embeds")


def check_rows(case: Case, made: Expansion, labels: str | None, mask: str) -> None:
    """Labels and mask; columns that are padding in every row are not made."""
    width = made.mask.shape[1]
    pairs = [(made.mask, mask, False)] + ([(made.labels, labels, IGNORE)] if labels else [])
    for got, name, fill in pairs:
        wanted = case.expected[name]
        case.check(got, wanted[:, :width], name)
        assert bool((wanted[:, width:] == fill).all()), f"{case.name} {name}: rows are missing"


def tiles_of(grids: Sequence[tuple[int, int]], sliced: bool) -> Tiles:
    """Where the tiles of such grids lie; without pixels."""
    layout: list[Tile] = []
    for frame, (rows, cols) in enumerate(grids):
        cells = [(r, c) for r in range(rows) for c in range(cols)] if sliced else [(0, 0)]
        layout += (Tile(frame=frame, row=r, col=c, box=(0, 0, 1, 1)) for r, c in cells)
        if len(cells) > 1:
            layout.append(Tile(frame=frame, box=(0, 0, 1, 1), whole=True))
    sizes = ((1, 1),) * len(grids)
    return Tiles(torch.zeros(len(layout), 3, 1, 1), tuple(layout), sizes, (0.0,) * len(grids))


def _shares(marks: Sequence[int], crops: Sequence[int]) -> list[int]:
    """How many crops each sample has, from how many its pictures have."""
    left = iter(crops)
    return [sum(next(left) for _ in range(count)) for count in marks]


def chat_of(case: Case) -> ChatFormat:
    """The tokenizer in weights/, without a model."""
    from transformers import LlamaTokenizer

    load: Any = LlamaTokenizer.from_pretrained
    return ChatFormat(load(str(case.weights), add_bos_token=True), ChatFacts(template="v1"))


def labelled(case: Case, chat: ChatFormat, samples: Sequence[Conversation]) -> list[Example]:
    asked = case.facts["hyperparameters"]
    most = asked.get("model_max_length", 2048)
    return [label(chat, sample, version=asked["version"], max_length=most) for sample in samples]


def prepared(case: Case, images: Sequence[Tensor | None], facts: ImageFacts) -> list[Pictures | None]:
    """The pictures of every sample, as the case says that they are prepared."""
    aspect = case.facts["hyperparameters"]["image_aspect_ratio"]
    most = case.facts["hyperparameters"]["patch_num"]
    facts = ImageFacts(
        size=facts.size, mean=facts.mean, std=facts.std, aspect=aspect, patch_num=int(most or 0)
    )
    made: list[Pictures | None] = []
    for image in images:
        if image is None:
            made.append(None)
            continue
        tiles = preprocess(image_handle(facts), Frames((image,), torch.zeros(1)))
        made.append(Pictures.sliced(tiles) if aspect == "slice" else Pictures.whole(tiles))
    return made


def check_pictures(case: Case, pictures: Sequence[Pictures | None]) -> None:
    """Rows and columns of every sample's grid, 1 by 1 for none."""
    grids = [(p.grids[0] or (1, 1)) if p is not None else (1, 1) for p in pictures]
    for name, sides in zip(("h_block", "w_block"), zip(*grids, strict=True), strict=True):
        case.check(torch.tensor(sides), name)
