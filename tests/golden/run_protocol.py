"""PLLaVA's evaluation protocol: frames, prompts, gold texts, scoring, EgoSchema, MVBench's tasks."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tokenloom.nodes.choice import check_choice
from tokenloom.nodes.media import load_video
from tokenloom.nodes.prompt import render_chat
from tokenloom.nodes.sample import sample_frames
from tokenloom.runtime.choice import gold_text, is_right, letter_index
from tokenloom.runtime.errors import MediaNotice
from tokenloom.runtime.mvbench import TASKS
from tokenloom.runtime.values import Answer, Frames

from ..runtime.models.tiny import chat_handle, tiny_tokenizer
from .runners import Case, runs

MODES = {"eval_videoqabench": "pllava_videoqa"}  # the others: pllava_ and the released name without eval_
ROOT = "DATAS/MVBench/video/"


@runs("prunevid", "tasks.eval.eval_utils")
def run_protocol(case: Case) -> None:
    told = json.loads((case.folder / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaNotice)  # short clips repeat frames, as the released code does
        for number, one in enumerate(told["frame_indices"]):
            _frame_indices(Path(folder) / str(number), one)
        for number, one in enumerate(told["demo_frame_indices"]):
            clip = _clip(Path(folder) / f"demo{number}", one["num_frames"], 0)
            frames = sample_frames(load_video(path=clip), frames=one["num_segments"], rule="pllava_demo")
            assert _numbers(frames) == one["indices"], one
    for one in told["prompts"]:
        _prompt(one)
    for one in told["check_answer"]:
        assert is_right(one["pred"], one["gold"]) == one["correct"], one
    for one in told["egoschema_answer"]:
        assert letter_index(one["pred"]) == one["index"], one
    ours = {
        name: [task.file, f"{ROOT}{task.folder}/", task.media, task.bounds] for name, task in TASKS.items()
    }
    assert ours == told["mvbench_tasks"]


def _frame_indices(path: Path, one: dict[str, Any]) -> None:
    """The rule `pllava` on a clip of that length and rate; folders count their files from 1."""
    first = one["first_idx"]
    clip = _clip(path, one["max_frame"] + 1 - first, first)
    start, end = one["bound"] or (None, None)
    frames = sample_frames(
        load_video(path=clip, fps=one["fps"]),
        frames=one["num_segments"],
        rule="pllava",
        start=start,
        end=end,
    )
    assert [number + first for number in _numbers(frames)] == one["indices"], one


def _clip(path: Path, count: int, first: int) -> Path:
    """One pixel per frame, which shows its number; an array, or a folder of pictures `%05d.png` from 1."""
    number = np.arange(count)
    pixels = np.stack([number % 256, number // 256, 0 * number], 1).astype(np.uint8)[:, None, None]
    if not first:
        np.save(path.with_suffix(".npy"), pixels)
        return path.with_suffix(".npy")
    path.mkdir()
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(path / f"{i + first:05d}.png")
    return path


def _numbers(frames: Frames) -> list[int]:
    return [int(picture[0, 0, 0]) + 256 * int(picture[0, 0, 1]) for picture in frames.pictures]


def _prompt(one: dict[str, Any]) -> None:
    """The text before tokenising, to the letter; and of a choice the question and the gold text."""
    mode = one["conv_mode"]
    raw = one.get("raw", {"question": one["question"], "candidates": []})
    options = tuple(raw["candidates"])
    prompt = render_chat(
        chat_handle(tiny_tokenizer()),
        question=raw["question"],
        options=options,
        template=MODES.get(mode, f"pllava_{mode.removeprefix('eval_')}"),  # type: ignore[arg-type]
        preface=one.get("pre_query_prompt") or "",
        instruction=one.get("post_query_prompt") or "",
        answer_prefix=one.get("answer_prompt") or "",
    )
    assert prompt.text == one["prompt"], one
    if options:
        assert one["question"] in prompt.text
        assert gold_text(options, raw["answer"], "golden") == one["gold"]
        answer = Answer(text=one["gold"][1:], ids=(), finish="stop", prompt_tokens=0, visual_tokens=0)
        assert check_choice(answer, options=options, gold=raw["answer"]) == (True, one["gold"], one["gold"])
