"""select_manual and mask_to_indices: numbers, paint, [CLS], order, and choices that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tokenloom.nodes.manual import mask_to_indices, select_manual
from tokenloom.runtime.context import Context, use
from tokenloom.runtime.errors import LoomError, MediaError, WiringError
from tokenloom.runtime.foreseen import KnownFrames, KnownPair, KnownTokens
from tokenloom.runtime.values import Frames, Patches, Source, Table, Tile, Tokens

from ..towers import made_patches, square_source
from .test_select import places


def drawn(width: int, height: int, *boxes: tuple[int, int, int, int], value: int = 255) -> torch.Tensor:
    """Black, and painted in these boxes."""
    pixels = torch.zeros(height, width, 3, dtype=torch.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = value
    return pixels


def file(folder: Path, pixels: torch.Tensor, name: str = "mask.png") -> Path:
    """The same as a file."""
    Image.fromarray(pixels.numpy()).save(folder / name)
    return folder / name


def frames(*pictures: torch.Tensor) -> Frames:
    return Frames(pictures, torch.zeros(len(pictures)).double())


def padded(cls_token: bool = True) -> Patches:
    """4 x 4 patches of a picture of 80 x 20 that was padded to a square: its middle rows see it."""
    source = Source((Tile(frame=0, box=(0, -30, 80, 50)),), 4, 4, ((80, 20),), (0.0,))
    return made_patches(source, cls_token=cls_token)


def line(cls_token: bool = True) -> Patches:
    """One row of five patches."""
    return made_patches(square_source(1, 1, 5), cls_token=cls_token)


# -- numbers -----------------------------------------------------------------------------------------------


def test_numbers_in_the_order_given() -> None:
    """As the released demo sends them; [CLS] has no number and stays only if asked for, then first."""
    picked = select_manual(line(), indices=(4, 1))
    assert (places(picked.kept), places(picked.rest)) == ([4, 1], [0, 2, 3])
    assert places(select_manual(line(), indices=(4, 1), include_cls=True).kept) == [-1, 4, 1]


def test_numbers_in_source_order() -> None:
    """Where the tower had them, [CLS] at the head of its own tile."""
    patches = made_patches(square_source(2, 1, 3))
    picked = select_manual(patches, indices=(5, 2, 0), include_cls=True, order="source")
    assert places(picked.kept) == [-1, 0, 2, -1, 5]
    given = select_manual(patches, indices=(5, 2, 0), include_cls=True)
    assert places(given.kept) == [-1, -1, 5, 2, 0]


def test_numbers_count_through_all_tiles_or_within_each() -> None:
    """For a clip the same places of every frame."""
    patches = made_patches(square_source(3, 1, 4), cls_token=False)
    assert places(select_manual(patches, indices=(6,)).kept) == [6]
    assert places(select_manual(patches, indices=(2, 0), each_tile=True).kept) == [2, 0, 6, 4, 10, 8]


def test_no_numbers_are_no_tokens() -> None:
    """An empty list is a choice: the released demo then sends no picture, or [CLS] alone."""
    assert len(select_manual(line(), indices=()).kept) == 0
    assert places(select_manual(line(), indices=(), include_cls=True).kept) == [-1]


def test_a_token_of_several_patches_is_taken_with_any() -> None:
    """Once, where the first of its patches is named; a patch may lie in several tokens."""
    merged = line(cls_token=False).merge(torch.tensor([0, 0, 1, 2, 2]))
    picked = select_manual(merged, indices=(4, 1, 0))
    assert picked.kept.member.tolist() == [3, 4, 0, 1]
    assert picked.rest.member.tolist() == [2]
    both = merged.concat(merged.select(torch.tensor([1])))
    assert len(select_manual(both, indices=(2,)).kept) == 2


def test_the_table_of_another_node_adds_up_with_numbers() -> None:
    """Its patches come first; one that both name is taken once."""
    table = Table(("score", "patch"), ((0.5, 3), (0.1, 1)))
    assert places(select_manual(line(), table, indices=(0, 3)).kept) == [3, 1, 0]


# -- paint -------------------------------------------------------------------------------------------------


def test_paint_is_mapped_through_the_padding(tmp_path: Path) -> None:
    """The picture's left edge is the left of the two rows that see it."""
    mask = file(tmp_path, drawn(80, 20, (0, 0, 5, 20)))
    assert places(select_manual(padded(), mask=mask).kept) == [4, 8]
    assert places(select_manual(padded(), mask=mask, indices=(0, 8)).kept) == [4, 8, 0]


def test_a_mask_for_every_frame(tmp_path: Path) -> None:
    """Each frame keeps its own; one mask for all keeps the same places of each."""
    clip = made_patches(Source(tuple(Tile(frame=i, box=(0, 0, 8, 8)) for i in range(2)), 2, 2,
                               ((8, 8),) * 2, (0.0, 1.0)), cls_token=False)  # fmt: skip
    left = file(tmp_path, drawn(8, 8, (0, 0, 1, 8)), "left.png")
    top = file(tmp_path, drawn(8, 8, (0, 0, 8, 1)), "top.png")
    assert places(select_manual(clip, mask=(left, top)).kept) == [0, 2, 4, 5]
    assert places(select_manual(clip, mask=left).kept) == [0, 2, 4, 6]


def test_a_mask_keeps_what_is_left_of_its_patches(tmp_path: Path) -> None:
    """Painted patches that were dropped before are no mistake, unless all of them were."""
    everything = file(tmp_path, drawn(80, 20, (0, 0, 80, 20)))
    few = padded(cls_token=False).select(torch.tensor([0, 5, 11]))
    assert places(select_manual(few, mask=everything).kept) == [5, 11]
    with pytest.raises(LoomError) as error:
        select_manual(few.select(torch.tensor([0])), mask=everything)
    assert str(error.value) == (
        "select_manual.mask: no token stands for any of the 8 painted patches; they were dropped before; "
        "wire select_manual to encode_vision, or paint elsewhere"
    )


def test_how_much_paint_is_enough(tmp_path: Path) -> None:
    """threshold, share and stretch reach the mask."""
    mask = file(tmp_path, drawn(40, 40, (0, 0, 10, 40), (10, 0, 13, 40), value=90))
    assert places(select_manual(padded(), mask=mask, stretch=True).kept) == [4, 5, 8, 9]
    assert places(select_manual(padded(), mask=mask, stretch=True, share=0.5).kept) == [4, 8]
    with pytest.raises(MediaError, match=r"nothing above 90 is painted on mask.png"):
        select_manual(padded(), mask=mask, stretch=True, threshold=91)


def test_drawn_patches_as_a_table() -> None:
    """Ascending, those that tokens stand for, of one tile or all; the table chooses them."""
    two = made_patches(Source((Tile(frame=0, box=(0, 0, 8, 8)), Tile(frame=0, box=(0, 0, 4, 4))), 2, 2,
                              ((8, 8),), (0.0,)), cls_token=False)  # fmt: skip
    mask = frames(drawn(8, 8, (2, 0, 8, 2), value=1))
    assert mask_to_indices(mask, two).rows == ((0,), (1,), (5,))
    assert mask_to_indices(mask, two, tile=1).rows == ((5,),)
    left = two.select(torch.tensor([1, 2, 5]))
    assert mask_to_indices(mask, left).rows == ((1,), (5,))
    assert places(select_manual(left, mask_to_indices(mask, left)).kept) == [1, 5]


def test_a_mask_and_its_table_choose_alike(tmp_path: Path) -> None:
    """By file or by wire."""
    pixels = drawn(80, 20, (30, 3, 45, 8))
    table = mask_to_indices(frames(pixels), padded())
    by_file = select_manual(padded(), mask=file(tmp_path, pixels)).kept
    assert places(select_manual(padded(), table).kept) == places(by_file) == [5, 6]


# -- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {},
            "select_manual: nothing is chosen; set indices to patch numbers such as [0, 1], or mask to a "
            "picture that is painted where tokens shall stay",
        ),
        ({"indices": (5,)}, "select_manual.indices: 5 is outside 0..4 (1 x 5 patches)"),
        ({"indices": (-1,)}, "select_manual.indices: -1 is below 0"),
        ({"indices": (3, 1, 3)}, "select_manual.indices: patch 3 is given twice; name each once"),
        (
            {"indices": (3, 1, 3, 1)},
            "select_manual.indices: patch 3 is given twice (and 1 more); name each once",
        ),
        (
            {"indices": (2,)},
            "select_manual.indices: no token stands for patch 2; it was dropped before, or is none of this "
            "picture's; choose others, or wire select_manual to encode_vision",
        ),
        (
            {"chosen": Table(("patch",), ((7,),))},
            "select_manual.chosen: no token stands for patch 7; it was dropped before, or is none of this "
            "picture's; choose others, or wire select_manual to encode_vision",
        ),
        (
            {"chosen": Table(("0", "1"), ((0.5, 0.5),))},
            "select_manual.chosen: a table of 0, 1, wanted a column 'patch' of patch numbers, as "
            "mask_to_indices makes it",
        ),
        (
            {"chosen": Table(("patch",), ((0.5,),))},
            "select_manual.chosen: a table of patch, wanted a column 'patch' of patch numbers, as "
            "mask_to_indices makes it",
        ),
        (
            {"indices": (0,), "include_cls": True},
            "select_manual.include_cls: the tokens hold no [CLS]; set features: cls_patch at encode_vision, "
            "or include_cls: false",
        ),
        ({"mask": ()}, "select_manual.mask: an empty list; give one mask for all pictures, or one for each"),
    ],
)
def test_choices_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    """Beyond the last patch, twice, already dropped, or nothing at all."""
    patches = line(cls_token=False).select(torch.tensor([0, 1, 3, 4]))
    with pytest.raises(LoomError) as error:
        select_manual(patches, **settings)
    assert str(error.value) == message


def test_the_range_names_the_tiles() -> None:
    """Numbers count through all of them, unless each_tile."""
    patches = made_patches(square_source(2, 2, 2))
    with pytest.raises(WiringError) as error:
        select_manual(patches, indices=(8,))
    assert str(error.value) == "select_manual.indices: 8 is outside 0..7 (2 tiles of 2 x 2 patches)"
    with pytest.raises(WiringError) as error:
        select_manual(patches, indices=(4,), each_tile=True)
    assert str(error.value) == "select_manual.indices: 4 is outside 0..3 (2 x 2 patches)"


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    """The file's size, the picture's, and the way out; drawn frames are named by number."""
    with pytest.raises(MediaError) as error:
        select_manual(padded(), mask=file(tmp_path, drawn(20, 20, (0, 0, 9, 9))))
    assert str(error.value) == (
        "select_manual.mask: mask.png is 20x20, but picture 0 is 80x20; paint on the picture at its own "
        "size, or set stretch: true when it was painted on a squeezed copy"
    )
    with pytest.raises(MediaError, match=r"^mask_to_indices.mask: the mask is 20x20, but picture 0 is 80x20"):
        mask_to_indices(frames(drawn(20, 20, (0, 0, 9, 9))), padded())
    with pytest.raises(WiringError, match=r"^mask_to_indices.tile: 1 is outside 0..0$"):
        mask_to_indices(frames(drawn(80, 20, (0, 0, 9, 9))), padded(), tile=1)


# -- while planning ----------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "indices": None,
    "mask": None,
    "each_tile": False,
    "threshold": 1,
    "share": 0.0,
    "stretch": False,
    "include_cls": False,
    "order": "given",
}
KNOWN = KnownTokens(
    tiles=2, per_tile=17, cls_token=True, cls_scores=True, patches=(4, 4), sizes=((80, 20),) * 2
)


def foreseen(known: KnownTokens | None, wired: tuple[str, ...] = (), **settings: Any) -> Any:
    """What a plan would know."""
    assert select_manual.foresee is not None
    with use(Context(wired=frozenset(wired))):
        return select_manual.foresee(known, None, **SETTINGS | settings)


@pytest.mark.parametrize(
    ("known", "settings", "message"),
    [
        (None, {}, "select_manual: nothing is chosen"),
        (None, {"indices": (1, 1)}, "select_manual.indices: patch 1 is given twice; name each once"),
        (KNOWN, {"indices": (32,)}, "select_manual.indices: 32 is outside 0..31 (2 tiles of 4 x 4 patches)"),
        (KNOWN, {"indices": (16,), "each_tile": True}, "select_manual.indices: 16 is outside 0..15 (4 x 4"),
        (
            KnownTokens(cls_token=False, cls_scores=False),
            {"indices": (0,), "include_cls": True},
            "select_manual.include_cls: the tower has no [CLS] token; set include_cls: false",
        ),
        (None, {"mask": ()}, "select_manual.mask: an empty list; give one mask for all pictures, or one for"),
        (None, {"mask": Path("none.png")}, "select_manual.mask: none.png: no such file; give the path of a"),
    ],
)
def test_a_plan_refuses_choices(known: KnownTokens | None, settings: dict[str, Any], message: str) -> None:
    """Before the tower runs."""
    with pytest.raises(LoomError) as error:
        foreseen(known, **settings)
    assert str(error.value).startswith(message)


def test_a_plan_refuses_masks(tmp_path: Path) -> None:
    """Without paint, of another number, of another size, as far as the pictures' sizes are known."""
    blank, small = file(tmp_path, drawn(80, 20)), file(tmp_path, drawn(8, 8, (0, 0, 1, 1)), "small.png")
    with pytest.raises(MediaError, match=r"^select_manual.mask: nothing is painted on mask.png"):
        foreseen(None, mask=blank)
    with pytest.raises(MediaError, match=r"^select_manual.mask: small.png is 8x8, but picture 0 is 80x20"):
        foreseen(KNOWN, mask=small)
    with pytest.raises(MediaError, match=r"^select_manual.mask: 3 masks for 2 pictures"):
        foreseen(KNOWN, mask=(small,) * 3)
    assert foreseen(KNOWN, mask=small, stretch=True) is not None
    assert foreseen(KnownTokens(), mask=small) is not None


def test_a_wired_table_is_a_choice() -> None:
    """Though nothing is known of it yet."""
    pair = foreseen(KNOWN, wired=("tokens", "chosen"))
    assert isinstance(pair, KnownPair)
    assert (pair.kept.per_tile, pair.kept.cls_token, pair.rest.cls_token) == (None, False, False)
    assert foreseen(KNOWN, indices=(0,), include_cls=True).kept.cls_token is True


@pytest.mark.parametrize("include_cls", [False, True])
@pytest.mark.parametrize("tiles", [1, 2])
def test_a_plan_knows_how_many_numbers_there_are(tiles: int, include_cls: bool) -> None:
    """Of one tile, and of each tile; with a table or a mask it depends."""
    patches = made_patches(square_source(tiles, 4, 4))
    known = KnownTokens(
        tiles=tiles, per_tile=17, cls_token=True, cls_scores=True, patches=(4, 4), grid=True, complete=True
    )
    settings: dict[str, Any] = {"indices": (7, 2, 0), "each_tile": tiles > 1, "include_cls": include_cls}
    pair, picked = foreseen(known, **settings), select_manual(patches, **settings)
    assert pair.kept.total == len(picked.kept)
    assert pair.rest.total == len(picked.rest)
    assert (pair.kept.varies, pair.kept.cls_token) == (False, include_cls)
    assert foreseen(known, wired=("chosen",), **settings).kept.varies
    settings["each_tile"] = False
    assert foreseen(known, **settings).kept.varies is (tiles > 1)


def test_a_plan_refuses_patches_that_may_be_gone() -> None:
    """After a selection only the run knows which are left."""
    with pytest.raises(LoomError) as error:
        foreseen(KnownTokens(complete=False), indices=(0,))
    assert str(error.value) == (
        "select_manual.tokens: patches were dropped before, and which is only known when it runs; "
        "wire select_manual to encode_vision, or to tokens that were merged and not dropped"
    )


def test_a_plan_refuses_a_drawing_of_another_size() -> None:
    """mask_to_indices, where the sizes of both are known."""
    assert mask_to_indices.foresee is not None
    settings: dict[str, Any] = {"tile": None, "threshold": 1, "share": 0.0, "stretch": False}
    known = KnownFrames(count=1, clip=False, sizes=((9, 9),))
    with pytest.raises(MediaError, match=r"^mask_to_indices.mask: the mask is 9x9, but picture 0 is 80x20"):
        mask_to_indices.foresee(known, KNOWN, **settings)
    assert mask_to_indices.foresee(known, KNOWN, **settings | {"stretch": True}) is None
    assert mask_to_indices.foresee(None, KNOWN, **settings) is None


@pytest.mark.gpu
def test_the_gpu_chooses_the_same(tmp_path: Path) -> None:
    """Numbers, paint and [CLS]."""
    mask = file(tmp_path, drawn(80, 20, (0, 0, 5, 20)))
    chosen: list[Tokens] = [
        select_manual(patches, mask=mask, indices=(15, 3), include_cls=True).kept
        for patches in (padded(), padded().to("cuda"))
    ]
    assert places(chosen[0]) == places(chosen[1].to("cpu"))
