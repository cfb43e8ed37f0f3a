"""Overlays, contact sheets and token flows as nodes: what they draw, what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.flow import token_flow
from tokenloom.nodes.see import contact_sheet, overlay_attention, overlay_tokens
from tokenloom.nodes.select import select_dominant
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import LoomError, MediaError, NeedError, WiringError
from tokenloom.runtime.foreseen import KnownFrames, KnownTokens
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.needs import Need
from tokenloom.runtime.plan import plan
from tokenloom.runtime.values import Frames, Patches, Segments, Source, Tile, Tiles
from tokenloom.runtime.yamlfile import load

from ..towers import tiny_tower, vision_handle

IMAGE = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"
SIZE = (60, 40)
NEEDS = (Need("attention", -2), Need("cls_attention", -2), Need("cls_attention"))


def pictures(*sizes: tuple[int, int], clip: bool = False) -> Frames:
    """Grey pictures, a second apart."""
    made = tuple(torch.full((h, w, 3), 120, dtype=torch.uint8) for w, h in sizes)
    return Frames(made, torch.arange(len(made)).double(), clip=clip)


def patches(count: int = 1) -> Patches:
    """Padded square tiles of as many pictures of 60 x 40."""
    box = (0.0, -10.0, 60.0, 50.0)
    layout = tuple(Tile(frame=i, box=box, time=i) for i in range(count))
    g = torch.Generator().manual_seed(3)
    pixels = torch.randn(count, 3, 16, 16, generator=g)
    tiles = Tiles(pixels, layout, (SIZE,) * count, tuple(map(float, range(count))))
    with demand(*NEEDS):
        return encode_vision(vision_handle(tiny_tower()), tiles, features="cls_patch")


def test_tokens_over_their_pictures() -> None:
    """As large as asked for, the caption counts."""
    kept = select_dominant(patches(), keep=5).kept
    small = overlay_tokens(kept, pictures(SIZE), side=100)
    assert small.caption == "5 tokens for 16 patches"
    assert overlay_tokens(kept, pictures(SIZE), side=200).pixels.shape[0] == small.pixels.shape[0] + 100
    assert overlay_tokens(kept, pictures(SIZE), title="mine").caption == "mine"


def test_pictures_of_several_wires() -> None:
    """They count through, as tiles do."""
    seen = patches(3)
    one = overlay_tokens(seen, pictures(SIZE, SIZE), pictures(SIZE), picture=2, side=100)
    assert one.caption == "51 tokens for 48 patches"
    assert one.pixels.equal(overlay_tokens(seen, pictures(SIZE, SIZE, SIZE), picture=2, side=100).pixels)


@pytest.mark.parametrize(
    ("frames", "settings", "kind", "message"),
    [
        (
            pictures((60, 41)),
            {},
            WiringError,
            "overlay_tokens.frames: 1 picture of 60x41, but the tokens are of 1 picture of 60x40; wire the "
            "frames that their tiles were made of, in the same order",
        ),
        (
            pictures(SIZE, SIZE),
            {},
            WiringError,
            "overlay_tokens.frames: 2 pictures of 60x40, but the tokens are of 1 picture of 60x40; wire the "
            "frames that their tiles were made of, in the same order",
        ),
        (
            pictures(SIZE),
            {"picture": 1},
            MediaError,
            "overlay_tokens.picture: 1 is outside 0..0; they count from 0",
        ),
    ],
)
def test_pictures_that_do_not_belong(
    frames: Frames, settings: dict[str, Any], kind: type[LoomError], message: str
) -> None:
    """Others, too many, or a number that is not there."""
    with pytest.raises(kind) as error:
        overlay_tokens(patches(), frames, **settings)
    assert str(error.value) == message


def test_panels_that_would_fill_the_memory() -> None:
    """Refused before they are drawn."""
    count = 8
    with pytest.raises(MediaError) as error:
        contact_sheet(pictures(*[SIZE] * count, clip=True), side=4096)
    assert str(error.value) == (
        "contact_sheet.side: 8 panels of 4096 x 4096 pixels are more than 100 million; lower side, or most"
    )


def test_attention_has_three_views() -> None:
    """Each says what it shows."""
    seen, frames = patches(), pictures(SIZE)
    captions = [
        overlay_attention(seen, frames, view="received", side=64).caption,
        overlay_attention(seen, frames, view="cls", side=64).caption,
        overlay_attention(seen, frames, view="row", index=6, side=64).caption,
    ]
    assert captions == [
        "What each patch receives from all patches in layer -2",
        "What [CLS] attends to in layer -2",
        "What patch 6 (row 1, column 2) attends to in layer -2",
    ]


@pytest.mark.parametrize(("point", "index"), [((0, 0), 0), ((59, 39), 15), ((31, 9), 6), ((14, 19), 4)])
def test_a_point_finds_its_patch(point: tuple[int, int], index: int) -> None:
    """Through the padding: patches are 15 x 15 pixels of the picture, the first row starts 10 above it."""
    seen, frames = patches(), pictures(SIZE)
    wanted = overlay_attention(seen, frames, view="row", index=index, side=64)
    assert overlay_attention(seen, frames, view="row", point=point, side=64).pixels.equal(wanted.pixels)


def test_a_point_prefers_the_grid_to_the_whole_view() -> None:
    """A tile shows it larger."""
    tiles = (
        Tile(frame=0, box=(0.0, 0.0, 60.0, 40.0), whole=True),
        Tile(frame=0, box=(0.0, 0.0, 30.0, 40.0)),
        Tile(frame=0, col=1, box=(30.0, 0.0, 60.0, 40.0)),
    )
    made = Tiles(torch.randn(3, 3, 16, 16), tiles, (SIZE,), (0.0,))
    with demand(*NEEDS):
        seen = encode_vision(vision_handle(tiny_tower()), made)
    got = overlay_attention(seen, pictures(SIZE), view="row", point=(40, 5), side=64)
    assert got.caption == "What patch 1 of tile 2 (row 0, column 1) attends to in layer -2"


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"index": 16}, WiringError, "overlay_attention.index: 16 is outside 0..15"),
        ({"tile": 1}, WiringError, "overlay_attention.tile: 1 is outside 0..0"),
        (
            {"point": (60, 3)},
            WiringError,
            "overlay_attention.point: 60, 3 is not on picture 0, which is 60x40; give x, y in its pixels, "
            "from 0",
        ),
    ],
)
def test_patches_that_are_not_there(settings: dict[str, Any], kind: type[LoomError], message: str) -> None:
    """Numbers and points outside."""
    with pytest.raises(kind) as error:
        overlay_attention(patches(), pictures(SIZE), view="row", **settings)
    assert str(error.value) == message


def test_dropped_patches_have_no_row() -> None:
    """And it is said which."""
    seen = patches().select(torch.arange(8))
    with pytest.raises(NeedError) as error:
        overlay_attention(seen, pictures(SIZE), view="row", index=12)
    assert str(error.value) == (
        "overlay_attention: no token stands for patch 12 of tile 0 alone; wire it to encode_vision"
    )


def test_a_plan_asks_the_tower_for_what_the_view_needs(tmp_path: Path) -> None:
    """[CLS] rows for one view, whole maps for the others, nothing else."""
    text = """
tokenloom: 1
nodes:
  model: {node: load_model, checkpoint: tiny-random}
  frames: {node: load_image, path: IMAGE}
  tiles: {node: preprocess, chat: $model.chat, frames: $frames}
  patches: {node: encode_vision, vision: $model.vision, tiles: $tiles}
  seen: {node: overlay_attention, patches: $patches, frames: $frames, view: VIEW}
outputs: {seen: $seen}
"""
    wanted = {}
    for view in ("row", "cls"):
        file = tmp_path / f"{view}.yaml"
        file.write_text(text.replace("VIEW", view).replace("IMAGE", str(IMAGE)))
        wanted[view] = plan(load(file)).by_id["patches"].wanted
    assert wanted == {"row": {Need("attention", -2)}, "cls": {Need("cls_attention", -2)}}


def test_what_cannot_be_drawn_is_refused_by_the_plan() -> None:
    """Pictures and patches that will not be there, names that are too few."""
    frames, known = KnownFrames(count=2, clip=False), KnownTokens(tiles=2, per_tile=16, patches=(4, 4))
    foresee = overlay_tokens.foresee
    assert foresee is not None
    with pytest.raises(MediaError, match=r"^overlay_tokens.picture: 2 is outside 0..1; they count from 0$"):
        foresee(known, frames, picture=2)
    foresee = overlay_attention.foresee
    assert foresee is not None
    with pytest.raises(WiringError, match=r"^overlay_attention.index: 16 is outside 0..15$"):
        foresee(known, frames, view="row", index=16, tile=0, picture=None, point=None)
    sized = KnownFrames(count=1, clip=False, sizes=(SIZE,))
    with pytest.raises(WiringError, match=r"^overlay_attention.point: 60, 0 is not on picture 0"):
        foresee(None, sized, view="row", index=0, tile=0, picture=None, point=(60, 0))
    assert foresee(known, frames, view="cls", index=16, tile=0, picture=None, point=None) is None


def test_segments_are_marked() -> None:
    """A bar above each run of frames; another segment, another colour."""
    frames = pictures(*[SIZE] * 4, clip=True)
    sheet = contact_sheet(frames, Segments(torch.tensor([0, 0, 1, 1])), side=64, columns=4)
    assert sheet.caption == "4 frames in 2 segments"
    colours = {tuple(colour) for colour in sheet.pixels.reshape(-1, 3).unique(dim=0).tolist()}
    assert {(0, 114, 178), (230, 159, 0)} <= colours
    plain = contact_sheet(frames, side=64, columns=4)
    assert plain.caption == "4 frames"
    assert plain.pixels.shape[0] < sheet.pixels.shape[0]


def test_a_sheet_with_tokens() -> None:
    """Over their frames; of many frames some."""
    frames, seen = pictures(*[SIZE] * 4, clip=True), patches(4)
    sheet = contact_sheet(frames, None, seen, side=64, columns=2)
    assert sheet.caption == "4 frames, 68 tokens"
    assert (
        contact_sheet(frames, None, seen, side=64, most=2, columns=2).pixels.shape[0] < sheet.pixels.shape[0]
    )


def test_segments_of_another_clip() -> None:
    """Refused with both numbers."""
    with pytest.raises(WiringError) as error:
        contact_sheet(pictures(SIZE, SIZE), Segments(torch.tensor([0, 0, 1])))
    assert str(error.value) == (
        "contact_sheet.segments: of 3 frames, but 2 came; wire the segments that cluster_temporal made of "
        "the same clip"
    )


@pytest.mark.parametrize(
    ("stages", "names", "message"),
    [
        (0, (), "token_flow.stages: nothing is connected; wire tokens, a placed prompt or a state"),
        (2, ("a",), "token_flow.names: 1 for 2 stages; give one for each, or none"),
        (1, ("a", "b"), "token_flow.names: 2 for 1 stage; give one for each, or none"),
    ],
)
def test_flows_that_cannot_be_drawn(stages: int, names: tuple[str, ...], message: str) -> None:
    """Nothing to draw, or names that do not fit."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 1.0, 1.0)),), 1, 1)
    with pytest.raises(WiringError) as error:
        token_flow(*[Patches.of_patches(source, torch.zeros(1, 1))] * stages, names=names)
    assert str(error.value) == message


def test_wires_for_a_graph() -> None:
    """The sockets take what pipelines have, in Python too."""
    with Graph("seen") as graph:
        seen, frames = graph.param("seen", Patches), graph.param("frames", Frames)
        kept = select_dominant(seen, keep=5).kept
        graph.output(flow=token_flow(seen, kept), sheet=contact_sheet(frames, tokens=kept))
    graph.check()
