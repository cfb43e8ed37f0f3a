"""How many answers are right, per kind of question: with 95 % intervals, beside the commonest answer's share.

Rows are mappings such as the lines of `questions.jsonl`: `id`, `kind`, `answer`, and the picture or clip as
`image` or `video`. Intervals are of the bootstrap over pictures, not over questions: questions about one
picture are right or wrong together. Where every answer is right, or none, an interval has no width.
"""

# S = scenes, C = columns (kinds, `moving`, `overall`), R = resamples

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapesError, did_you_mean
from ..rows import read_rows
from .questions import OPTIONS
from .words import RULES, Rule, chosen

Row = Mapping[str, Any]
MOVING, OVERALL = "moving", "overall"
RESAMPLES = 2000
_AT_ONCE = 100  # resamples


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """right of asked answers; low and high: 95 % interval of their share.

    majority: the share that the commonest answer of each kind would reach; commonest: which one that is, if
    only one kind is counted.
    """

    right: int
    asked: int
    low: float
    high: float
    majority: float
    commonest: str = ""

    @property
    def accuracy(self) -> float:
        """0 to 1."""
        return self.right / self.asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """kinds: one share for each kind that was asked. moving: `motion` of objects that do move, if asked."""

    overall: Share
    kinds: Mapping[str, Share]
    moving: Share | None = None

    @property
    def shares(self) -> dict[str, Share]:
        """Kinds, then `moving`, then `overall`."""
        moving = {} if self.moving is None else {MOVING: self.moving}
        return {**self.kinds, **moving, OVERALL: self.overall}

    def plain(self) -> dict[str, dict[str, Any]]:
        """For JSON: by name, the fields of the share and its accuracy, in parts of 1."""
        return {name: {**asdict(one), "accuracy": one.accuracy} for name, one in self.shares.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """By how much one set of answers is better than another, -1 to 1; low, high: 95 % interval."""

    gap: float
    low: float
    high: float


def score(
    truth: Sequence[Row],
    answers: Mapping[str, str],
    *,
    rule: Rule = "exact",
    partial: bool = False,
    resamples: int = RESAMPLES,
) -> Report:
    """How right `answers` (by question id) are; the same numbers every time.

    rule: see `words.chosen`. partial: questions that are not answered are left out, not refused.

    Raises:
        ShapesError: an unknown rule or kind, a question without an answer, an answer without a question.
    """
    truth = _answered(truth, answers, partial)
    flags = _flags(truth, answers, rule)
    names, asked_SC, right_SC = _counts(truth, flags)
    low_C, high_C = _interval(right_SC, asked_SC, resamples)
    base = majority_baseline(truth)
    found = {
        name: Share(
            right=int(right_SC[:, c].sum()),
            asked=int(asked_SC[:, c].sum()),
            low=float(low_C[c]),
            high=float(high_C[c]),
            majority=base[name].share,
            commonest=base[name].answer,
        )
        for c, name in enumerate(names)
    }
    overall, moving = found.pop(OVERALL), found.pop(MOVING, None)
    return Report(overall=overall, kinds=found, moving=moving)


def compare(
    truth: Sequence[Row],
    answers: Mapping[str, str],
    others: Mapping[str, str],
    *,
    rule: Rule = "exact",
    resamples: int = RESAMPLES,
) -> dict[str, Gap]:
    """By how much `answers` are better than `others`, per kind, `moving` and `overall`; resampled in pairs.

    Raises:
        ShapesError: as `score`.
    """
    pair = [_flags(_answered(truth, one, False), one, rule) for one in (answers, others)]
    names, asked_SC, right_SC = _counts(truth, pair[0])
    more_SC = right_SC - _counts(truth, pair[1])[2]
    low_C, high_C = _interval(more_SC, asked_SC, resamples)
    gap_C = more_SC.sum(0) / asked_SC.sum(0)
    return {
        name: Gap(gap=float(gap_C[c]), low=float(low_C[c]), high=float(high_C[c]))
        for c, name in enumerate(names)
    }


@dataclass(frozen=True, slots=True)
class Baseline:
    """The commonest answer ("" for several kinds together), and the share of questions it is right for."""

    answer: str
    share: float


def majority_baseline(questions: Iterable[Row]) -> dict[str, Baseline]:
    """Per kind, for `moving`, and `overall`: what always giving each kind's commonest answer would reach.

    Of equally common answers the first option counts.
    """
    counted: dict[str, Counter[str]] = {}
    for row in questions:
        counted.setdefault(str(row["kind"]), Counter())[str(row["answer"])] += 1
    best: dict[str, Baseline] = {}
    hits = 0
    for kind in sorted(counted, key=_order):
        best[kind] = _commonest(kind, counted[kind])
        hits += max(counted[kind].values())
    if moving := Counter({a: n for a, n in counted.get("motion", Counter()).items() if a != "nowhere"}):
        best[MOVING] = _commonest("motion", moving)
    if asked := sum(c.total() for c in counted.values()):
        best[OVERALL] = Baseline("", hits / asked)
    return best


def read_questions(path: Path) -> list[Row]:
    """The questions of a file, or of a folder that `shapes make` wrote.

    Raises:
        ShapesError: a line that is no question.
        RowsError: a file that cannot be read.
    """
    file = path / "questions.jsonl" if path.is_dir() else path
    rows = read_rows(file)
    for number, row in enumerate(rows, start=1):
        if missing := [name for name in ("id", "kind", "answer") if name not in row]:
            raise ShapesError(f"{file}:{number}: the question has no {', '.join(missing)}")
    return list(rows)


def read_answers(path: Path) -> dict[str, str]:
    """Answers by id: JSON lines `{"id": ..., "answer": ...}`, a sweep's rows (`item`), or a folder of `map`.

    Raises:
        ShapesError: a line that is no answer, a second answer to a question, or a folder without rows.
        RowsError: a file that cannot be read.
    """
    files = sorted(path.glob("part-*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise ShapesError(f"{path}: the folder holds no rows of tokenloom map (part-*.jsonl)")
    answers: dict[str, str] = {}
    for file in files:
        _add_answers(file, answers)
    return answers


def _add_answers(path: Path, answers: dict[str, str]) -> None:
    for number, row in enumerate(read_rows(path), start=1):
        id, said = row.get("id", row.get("item")), row.get("answer")
        if not isinstance(id, str) or not isinstance(said, str | int) or isinstance(said, bool):
            raise ShapesError(
                f'{path}:{number}: wanted {{"id": "...", "answer": "..."}}, got {str(row)[:60]}'
            )
        if id in answers:
            raise ShapesError(f"{path}:{number}: a second answer to {id}")
        answers[id] = str(said)


def _answered(truth: Sequence[Row], answers: Mapping[str, str], partial: bool) -> Sequence[Row]:
    ids = [str(row["id"]) for row in truth]
    if len(set(ids)) < len(ids):
        twice = next(id for id, times in Counter(ids).items() if times > 1)
        raise ShapesError(f"questions: the id {twice!r} stands twice")
    if unknown := [id for id in answers if id not in set(ids)]:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ShapesError(
            f"answers: {unknown[0]!r}{more}: no such question{did_you_mean(unknown[0], ids[:500])}"
        )
    open_ = [id for id in ids if id not in answers]
    if open_ and not partial:
        raise ShapesError(
            f"answers: {len(open_)} of {len(ids)} questions have none, such as {open_[0]!r}; "
            "answer them, or say partial to score only the others"
        )
    kept = [row for row, id in zip(truth, ids, strict=True) if id in answers]
    if not kept:
        raise ShapesError("answers: there is none to score")
    return kept


def _flags(truth: Sequence[Row], answers: Mapping[str, str], rule: Rule) -> list[bool]:
    if rule not in RULES:
        raise ShapesError(f"no rule is called {rule!r}{did_you_mean(rule, RULES)}")
    for row in truth:
        if row["kind"] not in OPTIONS:
            meant = did_you_mean(str(row["kind"]), OPTIONS)
            raise ShapesError(f"question {row['id']}: no kind is called {row['kind']!r}{meant}")
    return [chosen(row["kind"], answers[str(row["id"])], rule) == row["answer"] for row in truth]


def _counts(truth: Sequence[Row], flags: Sequence[bool]) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    """Names of the columns, and per scene and column how many questions were asked and were right, [S, C]."""
    kinds = sorted({str(row["kind"]) for row in truth}, key=_order)
    moving = [MOVING] if any(map(_moves, truth)) else []
    names = [*kinds, *moving, OVERALL]
    column = {name: c for c, name in enumerate(names)}
    scenes: dict[str, int] = {}
    asked_SC, right_SC = np.zeros((2, len(truth), len(names)))
    for row, flag in zip(truth, flags, strict=True):
        s = scenes.setdefault(str(row.get("image", row.get("video", row["id"]))), len(scenes))
        for name in (str(row["kind"]), *([MOVING] if _moves(row) else []), OVERALL):
            asked_SC[s, column[name]] += 1
            right_SC[s, column[name]] += flag
    return names, asked_SC[: len(scenes)], right_SC[: len(scenes)]


def _interval(hit_SC: NDArray[Any], asked_SC: NDArray[Any], resamples: int) -> NDArray[Any]:
    """The 2.5th and 97.5th percentile of hits per question over resamples of the scenes, [2, C]."""
    scenes, columns = asked_SC.shape
    both_SC = np.concatenate([hit_SC, asked_SC], axis=1)
    rng = np.random.default_rng(0)
    drawn = []
    for done in range(0, resamples, _AT_ONCE):
        some = min(_AT_ONCE, resamples - done)
        scene_RS = rng.integers(scenes, size=(some, scenes)) + np.arange(some)[:, None] * scenes
        times_RS = np.bincount(scene_RS.ravel(), minlength=some * scenes).reshape(some, scenes)
        drawn.append(times_RS @ both_SC)
    hit_RC, total_RC = np.split(np.concatenate(drawn), [columns], axis=1)
    share_RC = np.divide(hit_RC, total_RC, out=np.full_like(hit_RC, np.nan), where=total_RC > 0)
    bounds: NDArray[Any] = np.nanpercentile(share_RC, (2.5, 97.5), axis=0)
    return bounds


def _moves(row: Row) -> bool:
    return bool(row["kind"] == "motion" and row["answer"] != "nowhere")


def _commonest(kind: str, counted: Counter[str]) -> Baseline:
    options = OPTIONS.get(kind, ())
    best = max(
        sorted(counted, key=lambda a: options.index(a) if a in options else 99), key=counted.__getitem__
    )
    return Baseline(best, counted[best] / counted.total())


def _order(kind: str) -> tuple[int, str]:
    kinds = list(OPTIONS)
    return (kinds.index(kind) if kind in kinds else len(kinds), kind)
