"""What came out: accuracy per kind with intervals, what each setting kept and cost, and paired gaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..rows import Row
from ..shapes.score import Row as Question
from ..shapes.score import compare, score
from ..versions import versions
from .draft import NAMES
from .job import Job, Work, answers
from .methods import METHODS, STAGES
from .suite import Setting

FIGURES = ("placed", "last", "mean", "cached", "flops", "prompt")
"""Of every outcome, behind what was said."""
KEPT = {"none": "placed", "before": "placed", "inside": "last", "cache": "cached"}
"""Which figure a budget is about, by stage."""


def summary(job: Job, rows: Sequence[Row], rule: str) -> dict[str, Any]:
    """All of it as JSON has it; shares in parts of 1."""
    asking = job.asking
    found = {
        "what": "accuracy on coloured shapes against visual tokens",
        "checkpoint": asking.checkpoint,
        **{("fingerprint" if k == "checkpoint" else k): v for k, v in job.common.items()},
        "rule": rule,
        "versions": versions(),
        "media": {NAMES[work.medium]: _medium(work, rows, rule) for work in job.works},
    }
    return {name: _rounded(value) for name, value in found.items()}


def as_lines(value: Any, levels: int = 4) -> str:
    """JSON with a line for each entry down to that level: of a summary, each setting and each gap."""
    if not levels or not value or not isinstance(value, dict | list):
        return json.dumps(value)
    pad = " " * (5 - levels)
    if isinstance(value, dict):
        inside = [f"{json.dumps(name)}: {as_lines(one, levels - 1)}" for name, one in value.items()]
    else:
        inside = [as_lines(one, levels - 1) for one in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(pad + line for line in inside) + f"\n{pad[1:]}{closing}"


def _medium(work: Work, rows: Sequence[Row], rule: str) -> dict[str, Any]:
    questions = work.questions
    found = answers(rows)
    said = {s.id: {q["id"]: found[q["id"]][s.id][1][0] for q in questions} for s in work.settings}
    figures = {
        s.id: [_mean([found[q["id"]][s.id][1][1 + i] for q in questions]) for i in range(len(FIGURES))]
        for s in work.settings
    }
    full = figures.get("full")
    return {
        "questions": len(questions),
        "scenes": len(work.scenes),
        "left_out": dict(work.left_out),
        "settings": [
            _setting(s, questions, said[s.id], dict(zip(FIGURES, figures[s.id], strict=True)), full, rule)
            for s in work.settings
        ],
        "gaps": _gaps(work.settings, questions, said, rule),
    }


def _setting(
    setting: Setting,
    questions: Sequence[Question],
    said: dict[str, str],
    figures: dict[str, float],
    full: Sequence[float] | None,
    rule: Any,
) -> dict[str, Any]:
    method = setting.of
    whole = None if full is None else dict(zip(FIGURES, full, strict=True))
    kept = figures[KEPT[method.stage]]
    return {
        "id": setting.id,
        "method": method.name,
        "title": method.title,
        "stage": method.stage,
        "where": STAGES[method.stage],
        "control": method.control,
        "follows": method.published,
        "budget": setting.part,
        "knob": setting.knob,
        "kept": kept,
        "kept_of_full": None if whole is None else kept / whole["placed"],
        **figures,
        "flops_of_full": None if whole is None else figures["flops"] / whole["flops"],
        "prompt_of_full": None if whole is None else figures["prompt"] / whole["prompt"],
        "shares": score(questions, said, rule=rule).plain(),
    }


def _gaps(
    settings: Sequence[Setting], questions: Sequence[Question], said: dict[str, dict[str, str]], rule: Any
) -> list[dict[str, Any]]:
    """Of every method against its controls of the same budget, and against the uncompressed model."""
    known = {s.id for s in settings}
    out: list[dict[str, Any]] = []
    for setting in settings:
        against = [Setting(name, setting.part).id for name in METHODS[setting.method].controls]
        for other in [id for id in (*against, "full") if id in known and id != setting.id]:
            found = compare(questions, said[setting.id], said[other], rule=rule)
            out.append(
                {
                    "id": setting.id,
                    "against": other,
                    "gap": {name: asdict(gap) for name, gap in found.items()},
                }
            )
    return out


def _rounded(value: Any) -> Any:
    """Floats to five digits behind the point."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
