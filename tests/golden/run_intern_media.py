"""Golden cases of InternVL's and PVC's preprocessing: grids, frame numbers, pictures and clips from files."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tokenloom.nodes.media import load_image, load_video
from tokenloom.nodes.sample import sample_frames
from tokenloom.nodes.tile_dynamic import tile_dynamic
from tokenloom.runtime.dynamic import Tiling, best_grid
from tokenloom.runtime.errors import MediaError, MediaNotice
from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import ImageFacts, Model
from tokenloom.runtime.values import Tiles, Video
from tokenloom.runtime.video import rules

from ..handles import image_handle
from .runners import Case, runs

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


def chat_of(side: int) -> Model[ChatFormat]:
    return image_handle(ImageFacts(size=side, mean=MEAN, std=STD))


@runs("pvc", "dynamic_preprocess / find_closest_aspect_ratio")
def grids(case: Case) -> None:
    for width, height, least, most, side, thumbnail, columns, rows, tiles in case.facts["rows"]:
        how = Tiling(side=side, least=least, most=most, thumbnail=bool(thumbnail))
        assert best_grid((width, height), how) == (columns, rows), (width, height, how)
        assert how.count((width, height)) == tiles, (width, height, how)


@runs("pvc", "get_index")
def frame_numbers(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for row in case.facts["rows"]:
            start, end = row["bound"] or (None, None)
            n, first, last = row["num_segments"], row["first_idx"], row["max_frame"]
            bounds = {"start": start, "end": end}
            got = rules.segment_middles(n, fps=row["fps"], last=last, first=first, **bounds)
            assert got == row["indices"], row
            if first == 0:  # seconds before the clip are refused, and mean its beginning
                seconds = {"start": None if start is None else max(start, 0), "end": end}
                check_node(row, Path(folder) / "clip.npy", seconds)


def check_node(row: dict[str, Any], file: Path, bounds: dict[str, Any]) -> None:
    """The same through sample_frames, on a clip whose every frame shows its number; or its refusal."""
    count, n, wanted = row["max_frame"] + 1, row["num_segments"], row["indices"]
    np.save(file, np.arange(count * 3, dtype=np.uint32).view(np.uint8).reshape(count, 2, 2, 3))
    video = load_video(path=file, fps=row["fps"])
    late = row["bound"] is not None and bounds["start"] >= count / row["fps"]  # even where all exist
    past = late or not 0 <= min(wanted) <= max(wanted) < count
    empty = row["bound"] is not None and bounds["start"] >= bounds["end"]
    if past or empty:
        with pytest.raises(MediaError, match=r"after the clip's end|is not before end"):
            sample_frames(video, frames=n, rule="internvl", **bounds)
        return
    with told_of_repeats(video, n, bounds):
        frames = sample_frames(video, frames=n, rule="internvl", **bounds)
    shown = [int(p.numpy().reshape(-1)[:4].view(np.uint32)[0]) // 3 for p in frames.pictures]
    assert shown == wanted, row


@runs("pvc", "load_image")
def image(case: Case) -> None:
    asked = case.facts["arguments"]
    frames = load_image(path=case.folder / asked["image_file"].split(" ")[0])
    given = case.inputs["image"]
    colours = given[..., :3] if given.ndim == 3 else given[..., None].expand(-1, -1, 3)  # alpha is dropped
    case.check(frames.pictures[0], colours)
    tiles = tile_dynamic(chat_of(asked["input_size"]), frames, max_num=asked["max_num"])
    told = case.facts["expected"]
    assert list(tiles.pixels.shape) == told["shape"]
    assert grid_of(tiles) == told["grid_columns_rows"]
    if "pixel_values" in case.expected:
        exact(case, tiles.pixels, "pixel_values")
    if told["pixel_values_sample"]:
        exact(case, tiles.pixels[:, :, 5::32, 3::32], "pixel_values_sample")
    mean, std = tiles.pixels.mean((2, 3)), tiles.pixels.std((2, 3))
    torch.testing.assert_close(mean, case.expected["mean_per_tile_channel"], rtol=0, atol=1e-6)
    torch.testing.assert_close(std, case.expected["std_per_tile_channel"], rtol=0, atol=1e-6)


@runs("pvc", "load_video")
def video(case: Case) -> None:
    asked, told = case.facts["arguments"], case.facts["expected"]
    start, end = asked["bound"] or (None, None)
    bounds: dict[str, Any] = {"start": start, "end": end}
    clip = load_video(path=case.folder / asked["video_path"].split(" ")[0])
    assert clip.frames == case.facts["video"]["frames"]
    with told_of_repeats(clip, asked["num_segments"], bounds):
        frames = sample_frames(clip, frames=asked["num_segments"], rule="internvl", **bounds)
    numbers = [round(float(t) * clip.fps) for t in frames.time]
    assert numbers == told["frame_indices"]
    case.check(frames.stack(), "frames")
    tiles = tile_dynamic(chat_of(asked["input_size"]), frames, max_num=asked["max_num"])
    count = torch.bincount(torch.tensor([tile.frame for tile in tiles.layout]))
    assert count.tolist() == told["num_patches_list"]
    exact(case, tiles.pixels, "pixel_values")


def exact(case: Case, got: Tensor, name: str) -> None:
    """The case allows one 8-bit level; we promise not one bit of difference."""
    assert torch.equal(got, case.expected[name]), f"{case.name} {name} is not bit-exact"


def grid_of(tiles: Tiles) -> list[int]:
    last = [tile for tile in tiles.layout if not tile.whole][-1]
    return [last.col + 1, last.row + 1]


@contextmanager
def told_of_repeats(clip: Video, n: int, bounds: dict[str, Any]) -> Iterator[None]:
    """Inside, a notice of repeated frames comes exactly if fewer than `n` lie between the bounds."""
    low, high = rules.within(np.arange(clip.frames) / clip.fps, bounds["start"], bounds["end"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [one.category for one in caught] == [MediaNotice] * (n > high - low + 1)
