"""visionzip_manual: what a person chooses reaches the language model, or is refused before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tokenloom.runtime.errors import LoomError
from tokenloom.runtime.plan import plan
from tokenloom.runtime.values import Kind, Picture, Tokens

from ..exact import load, run

MEDIA = Path(__file__).parents[2] / "examples" / "media"
PICTURE, VIDEO = MEDIA / "shapes.png", MEDIA / "shapes.mp4"
CLIP_SIZE = (320, 240)  # of the clip
WIDTH, HEIGHT = 640, 480


def painted(folder: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """A sketch layer: white in the box, transparent elsewhere."""
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    layer.paste((255, 255, 255, 255), box)
    layer.save(folder / "mask.png")
    return folder / "mask.png"


def tokens_of(**params: Any) -> Tokens:
    result = run("visionzip_manual", image=PICTURE, max_new_tokens=1, cache=False, **params)
    return cast("Tokens", result["tokens"])


def test_numbers_and_cls() -> None:
    """In the order given, [CLS] first."""
    tokens = tokens_of(indices=[40, 3], include_cls=True)
    assert tokens.kind.tolist() == [int(Kind.CLS), int(Kind.PATCH), int(Kind.PATCH)]
    assert tokens.member.tolist() == [40, 3]


def test_paint_lands_where_the_model_sees_it(tmp_path: Path) -> None:
    """The patches that are left show just what was painted, though the model pads the picture."""
    tokens = tokens_of(mask=painted(tmp_path, (320, 0, WIDTH, 160)))  # the picture is padded to a square
    side = WIDTH / tokens.source.cols
    row, col = np.divmod(tokens.member.numpy(), tokens.source.cols)
    left, top = col * side, row * side - (WIDTH - HEIGHT) / 2
    assert (left + side > 320).all()  # each touches the paint
    assert (top < 160).all()
    assert left.min() <= 320  # and together they cover it
    assert top.min() <= 0
    assert top.max() + side >= 160
    assert len(set(zip(row, col, strict=True))) == len(set(row)) * len(set(col))


def test_several_pictures_each_with_its_mask(tmp_path: Path) -> None:
    """A list of pictures and a list of masks."""
    mask = painted(tmp_path, (0, 0, 10, 10))
    result = run(
        "visionzip_manual", image=[PICTURE, PICTURE], mask=[mask, mask], max_new_tokens=1, cache=False
    )
    tokens = cast("Tokens", result["tokens"])
    assert tokens.frame.tolist() == [0, 1]


def test_tiles_of_a_grid(tmp_path: Path) -> None:
    """LLaVA-NeXT: paint is found in the base tile and in the grid."""
    graph = load(
        "next.yaml",
        text="tokenloom: 1\nextends: visionzip_manual\n"
        "params: {checkpoint: {type: str, default: tiny-random-next}}\n"
        "nodes: {tiles: {aspect: anyres}}\n",
    )
    mask = painted(tmp_path, (0, 0, WIDTH, HEIGHT))
    tokens = cast("Tokens", run(graph, image=PICTURE, mask=mask, max_new_tokens=1, cache=False)["tokens"])
    kept = tokens.home.bincount()
    assert len(kept) == len(tokens.source.tiles) > 1
    assert int(kept[0]) == tokens.source.per_tile  # the base tile is the whole picture, squeezed


CLIP = """
tokenloom: 1
extends: visionzip_manual
params: {image: null, video: {type: path, help: "a clip"}}
nodes:
  clip: {node: load_video, path: $video}
  frames: {node: sample_frames, path: null, video: $clip, frames: 3}
"""


def test_a_clip_under_one_mask_or_a_folder_of_them(tmp_path: Path) -> None:
    """The same places of every frame, or each frame's own, by the names of the files."""
    graph, given = load("clip.yaml", text=CLIP), {"video": VIDEO, "max_new_tokens": 1, "cache": False}
    right = CLIP_SIZE[0] - 1
    for name, left in (("10", 0), ("9", right), ("11", right)):
        painted(tmp_path, (left, 0, left + 1, 1), CLIP_SIZE).rename(tmp_path / f"{name}.png")
    one: dict[str, Any] = {"mask": tmp_path / "10.png"}
    tokens = cast("Tokens", run(graph, **given, **one)["tokens"])
    assert tokens.frame.tolist() == [0, 1, 2]
    first = tokens.member % tokens.source.per_tile
    assert first.unique().numel() == 1
    tokens = cast("Tokens", run(graph, **given, mask=tmp_path)["tokens"])
    assert tokens.frame.tolist() == [0, 1, 2]
    place = tokens.member % tokens.source.per_tile % tokens.source.cols
    assert int(place[1]) == int(first[0]) % tokens.source.cols
    assert int(place[0]) == int(place[2]) > int(place[1])


def test_the_preview_shows_what_is_left() -> None:
    """Drawn over the picture."""
    result = run("visionzip_manual", image=PICTURE, indices=[40, 41], max_new_tokens=1, cache=False)
    assert cast("Picture", result["preview"]).caption.startswith("2 tokens for ")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "select_manual: nothing is chosen; set indices to patch numbers such as [0, 1], or mask to"),
        ({"indices": [9999]}, "select_manual.indices: 9999 is outside 0.."),
        ({"indices": [7, 7]}, "select_manual.indices: patch 7 is given twice; name each once"),
        ({"mask": "size"}, "select_manual.mask: mask.png is 64x48, but picture 0 is 640x480; paint on the"),
        (
            {"mask": "blank"},
            "select_manual.mask: nothing is painted on mask.png, wanted a level of 1 or more",
        ),
    ],
)
def test_a_plan_refuses_it(tmp_path: Path, params: dict[str, Any], message: str) -> None:
    """Before a weight is read."""
    made = {"size": ((0, 0, 9, 9), (64, 48)), "blank": ((0, 0, 0, 0), (WIDTH, HEIGHT))}
    given = {"mask": painted(tmp_path, *made[params["mask"]])} if "mask" in params else params
    with pytest.raises(LoomError) as error:
        plan(load("visionzip_manual"), {"image": PICTURE, **given})
    assert str(error.value).startswith(message)
