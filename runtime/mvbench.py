"""MVBench's twenty tasks: where each lies, and its questions.

for one in questions(Path("MVBench"), "Action Sequence"):
    tokenloom.run(graph, video=one.video, start=one.start, end=one.end, question=one.question,
                  options=one.options, gold=one.gold)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .errors import MediaError, did_you_mean


class Task(NamedTuple):
    """file: below `json/`. folder: below `video/`. media: a file, or a folder of frames at 3 per second.

    bounds: questions are about a part of the clip, in seconds.
    """

    file: str
    folder: str
    media: Literal["video", "frame"] = "video"
    bounds: bool = False


_CLEVRER, _PERCEPTION, _STAR = "clevrer/video_validation", "perception/videos", "star/Charades_v1_480"

TASKS: dict[str, Task] = {
    "Action Sequence": Task("action_sequence.json", _STAR, bounds=True),
    "Action Prediction": Task("action_prediction.json", _STAR, bounds=True),
    "Action Antonym": Task("action_antonym.json", "ssv2_video"),
    "Fine-grained Action": Task("fine_grained_action.json", "Moments_in_Time_Raw/videos"),
    "Unexpected Action": Task("unexpected_action.json", "FunQA_test/test"),
    "Object Existence": Task("object_existence.json", _CLEVRER),
    "Object Interaction": Task("object_interaction.json", _STAR, bounds=True),
    "Object Shuffle": Task("object_shuffle.json", _PERCEPTION),
    "Moving Direction": Task("moving_direction.json", _CLEVRER),
    "Action Localization": Task("action_localization.json", "sta/sta_video", bounds=True),
    "Scene Transition": Task("scene_transition.json", "scene_qa/video"),
    "Action Count": Task("action_count.json", _PERCEPTION),
    "Moving Count": Task("moving_count.json", _CLEVRER),
    "Moving Attribute": Task("moving_attribute.json", _CLEVRER),
    "State Change": Task("state_change.json", _PERCEPTION),
    "Fine-grained Pose": Task("fine_grained_pose.json", "nturgbd"),
    "Character Order": Task("character_order.json", _PERCEPTION),
    "Egocentric Navigation": Task("egocentric_navigation.json", "vlnqa"),
    "Episodic Reasoning": Task("episodic_reasoning.json", "tvqa/frames_fps3_hq", "frame", bounds=True),
    "Counterfactual Inference": Task("counterfactual_inference.json", _CLEVRER),
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One record: what is asked about which clip, the options, and the right one's words.

    start, end: seconds; None: the whole clip.
    """

    video: Path
    question: str
    options: tuple[str, ...]
    gold: str
    start: float | None = None
    end: float | None = None


def questions(folder: Path, task: str) -> list[Question]:
    """The records of a task, from a folder with `json/` and `video/` as the benchmark comes.

    Errors: MediaError for an unknown task, a missing file, or records without what they need.
    """
    if task not in TASKS:
        raise MediaError(f"MVBench has no task {task!r}{did_you_mean(task, TASKS)}")
    told = TASKS[task]
    file = folder / "json" / told.file
    try:
        records: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return [_question(folder / "video" / told.folder, record, told.bounds) for record in records]
    except OSError as error:
        raise MediaError(
            f"{file}: cannot be read ({error.strerror}); give the folder that holds json/ and video/"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError(
            f"{file}: not a list of MVBench's records ({type(error).__name__}: {error}); wanted video, "
            "question, candidates and answer" + (", start and end" if told.bounds else "")
        ) from None


def _question(folder: Path, record: dict[str, Any], bounds: bool) -> Question:
    return Question(
        video=folder / record["video"],
        question=record["question"],
        options=tuple(record["candidates"]),
        gold=record["answer"],
        start=float(record["start"]) if bounds else None,
        end=float(record["end"]) if bounds else None,
    )
