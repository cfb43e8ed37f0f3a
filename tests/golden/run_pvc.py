"""Golden cases of PVC's proposed definitions: the path from tiles to greedy ids, and its inner numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tokenloom.nodes.generate import generate
from tokenloom.nodes.models import Loaded, load_model
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.pvc import encode_pvc, project_pvc, repeat_frames
from tokenloom.nodes.shuffle import groups_of
from tokenloom.runtime.context import demand
from tokenloom.runtime.models.pvc import Compressor, Sequences, sinusoid
from tokenloom.runtime.models.tower_pvc import Progressive, PvcTower
from tokenloom.runtime.repeats import Flag
from tokenloom.runtime.values import Patches, Prompt, Tile, Tiles, VisualTokens

from .runners import Case, runs

FLAGS: dict[int, Flag] = {1: "single", 2: "multi", 3: "video"}


def tiles_of(pixels: Tensor, per_picture: list[int]) -> Tiles:
    """Pixels of all pictures of a sample, side by side in each."""
    size = (pixels.shape[3], pixels.shape[2])
    layout = tuple(
        Tile(frame=frame, row=0, col=col, box=(0, 0, *size))
        for frame, count in enumerate(per_picture)
        for col in range(count)
    )
    return Tiles(pixels, layout, (size,) * len(per_picture), (0.0,) * len(per_picture))


def prompt_of(ids: list[int], context: int) -> Prompt:
    """The ids, with one slot instead of each run of context tokens."""
    marked = [-200 if i == context else i for i in ids]
    return Prompt.of_ids([i for n, i in enumerate(marked) if i >= 0 or not n or marked[n - 1] >= 0])


def samples(case: Case) -> list[Tiles]:
    """The frames of every sample, as repeat_frames plans them."""
    out: list[Tiles] = []
    options, start = case.facts["options"], 0
    for sample in case.facts["samples"]:
        stop = start + sum(sample["num_patches_list"])
        tiles = tiles_of(case.inputs["pixel_values"][start:stop], sample["num_patches_list"])
        out.append(
            repeat_frames(
                tiles,
                data_flag=FLAGS[sample["data_flag"]],
                image_repeat_time=options["image_repeat_time"],
                video_repeat_time=options["video_repeat_time"],
                tile_repeat_way=options["tile_repeat_way"],
                cells="together",  # as the reference does for frames of several tiles
            )
        )
        start = stop
    return out


def check_plan(case: Case, frames: list[Tiles], tower: PvcTower) -> None:
    """Sources, sequences and times of all frames, and what the tower makes of a time."""
    how = Progressive.of("encode_pvc", tower.facts)
    source, sequence, times = list[int](), list[int](), list[Tensor]()
    for tiles in frames:
        first, sequences = 1 + max(source, default=-1), 1 + max(sequence, default=-1)
        source += [first + row for row in tiles.shown or range(len(tiles))]
        sequence += [sequences + tile.sequence for tile in tiles.layout]
        times.append(Sequences.of("encode_pvc", tiles.layout, how.time, how.time_scale).time)
    time = torch.cat(times)
    case.check(torch.tensor(source), "frame_source")
    case.check(torch.tensor(sequence), "frame_sequence")
    case.check(time, "frame_time")
    if tower.temporal.temporal_embedder is not None:
        case.check(sinusoid(time, tower.temporal.temporal_embedder.inputs), "time_sinusoid")
        case.check(tower.temporal.temporal_embedder(time), "time_embedding")


def check_tower(case: Case, model: Loaded, frames: list[Tiles], tower: PvcTower) -> None:
    """Every recorded hidden state, with and without sharing; the temporal attention from recorded states."""
    how = Progressive.of("encode_pvc", tower.facts)
    for layer in range(tower.facts.depth + 1):
        if f"hidden_state_{layer}" not in case.expected:
            continue
        for share in (True, False):
            with demand():
                parts = [
                    encode_pvc(model.vision, tiles, layer=layer, features="cls_patch", share=share)
                    for tiles in frames
                ]
            shape = (sum(map(len, frames)), -1, parts[0].width)
            case.check(torch.cat([p.features for p in parts]).reshape(shape), f"hidden_state_{layer}")
    for number in how.layers:
        if f"temporal_attn_out_{number}" in case.expected:
            out = torch.cat(list(temporal_outputs(case, frames, tower, number)))
            case.check(out, f"temporal_attn_out_{number}")


def temporal_outputs(case: Case, frames: list[Tiles], tower: PvcTower, number: int) -> list[Tensor]:
    """[K, N, D] of each sample: the temporal attention of a layer, from its recorded input."""
    how, out, start = Progressive.of("encode_pvc", tower.facts), list[Tensor](), 0
    for tiles in frames:
        hidden = case.expected[f"hidden_state_{number}"][start : start + len(tiles)]
        sequences = Sequences.of("encode_pvc", tiles.layout, how.time, how.time_scale)
        embedding = tower.temporal.embed(sequences.time)
        hidden = tower.attend(number, hidden, tower.normed(number, "attn", hidden, embedding, how))
        found = torch.empty_like(hidden)
        own = embedding if "temporal" in how.adaln_on else None
        for index in sequences.by_length():
            read = tower.temporal.layer(number).attended(hidden[index], None if own is None else own[index])
            found[index] = read
        out.append(found)
        start += len(tiles)
    return out


def check_compressor(case: Case, model: Loaded, encoded: list[Patches]) -> list[VisualTokens]:
    """Groups of patches, what they are after the norm, and the tokens."""
    projector = model.projector.load()
    compressor, facts = projector.module, projector.facts
    assert isinstance(compressor, Compressor)
    tiles = sum(len(patches.source.tiles) for patches in encoded)
    groups, normed = list[Tensor](), list[Tensor]()
    time = case.expected["frame_time"]
    if "compressor_time_embedding" in case.expected:
        assert compressor.mlp1_temporal_embedder is not None
        case.check(compressor.mlp1_temporal_embedder(time), "compressor_time_embedding")
    start = 0
    for patches in encoded:
        plain, row_GP = groups_of("project_pvc", patches, facts, None, None)
        groups.append(plain.features[row_GP].flatten(1))
        per_tile, own = len(row_GP) // len(patches.source.tiles), len(patches.source.tiles)
        normed.append(compressor.normed(groups[-1], time[start : start + own].repeat_interleave(per_tile)))
        start += own
    visual = [project_pvc(model.projector, patches) for patches in encoded]
    for parts, name in (
        (groups, "pixel_shuffled"),
        (normed, "compressor_norm"),
        ([v.features for v in visual], "compressed_tokens"),
    ):
        joined = torch.cat(parts)
        case.check(joined.reshape(tiles, -1, joined.shape[1]), name)
    return visual


@runs("pvc", "reimplementation from paper")
def pvc(case: Case) -> None:
    model = load_model(checkpoint=str(case.weights), dtype="float32", device="cpu")
    tower: Any = model.vision.load()
    frames = samples(case)
    check_plan(case, frames, tower)
    check_tower(case, model, frames, tower)
    encoded = [encode_pvc(model.vision, tiles) for tiles in frames]
    for number, visual in enumerate(check_compressor(case, model, encoded)):
        ids = case.inputs[f"input_ids_{number}"][0].tolist()
        placed = place_tokens(model.llm, prompt_of(ids, case.facts["img_context_token_id"]), visual)
        case.check(placed.embeds[None], f"merged_embeds_{number}")
        logits = read_logits(model.llm, prefill(model.llm, placed), rows="all")
        case.check(logits.values[None], f"logits_{number}")
        want = case.expected[f"generated_ids_{number}"][0]
        answer = generate(model.llm, placed, max_new_tokens=len(want)).answer
        case.check(torch.tensor(answer.ids), want, f"generated_ids_{number}")
