"""The accuracy benchmark as a whole: checked, tuned, run scene by scene, and gone on with after a stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..cache import Cache
from ..device import resolve_device, resolve_dtype
from ..errors import BenchError, did_you_mean
from ..rows import Row, RowFile
from ..shapes.scene import SPLITS, Split
from ..shapes.score import Row as Question
from ..sweep.ledger import Ledger
from .data import Scene, scenes
from .draft import MEDIA, NAMES, Medium, Parts
from .methods import METHODS, Method
from .suite import Setting, Suite
from .tuning import SCENES, Asked, tuned

LEAST = 20
"""Questions of each medium, at least."""
SMALL = 1024  # width of a language model up to which one thread is as fast as several
ROWS = "rows.jsonl"
Rule = Literal["exact", "option"]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is benchmarked. methods: () for all that fit. number: questions of each medium, at least."""

    checkpoint: str = "tiny-llava"
    methods: tuple[str, ...] = ()
    budgets: tuple[float, ...] = (0.5, 0.25, 0.1)
    media: tuple[Medium, ...] = MEDIA
    number: int = 500
    seed: int = 0
    split: Split = "test"
    frames: int = 8
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        for name in self.methods:
            if name not in METHODS:
                raise BenchError(f"--methods: no method is called {name!r}{did_you_mean(name, METHODS)}")
        if not self.budgets:
            raise BenchError("--budgets: none is given; wanted parts of the tokens, such as .5,.25,.1")
        for part in self.budgets:
            if not 0 < part <= 1:
                raise BenchError(
                    f"--budgets: {part:g} is no part of the tokens; wanted above 0 and up to 1, such as 0.25"
                )
        if self.number < LEAST:
            raise BenchError(
                f"--n: {self.number} questions say nothing; wanted at least {LEAST}, and 500 for a table"
            )
        if self.split not in SPLITS:
            raise BenchError(f"--split: no split is called {self.split!r}{did_you_mean(self.split, SPLITS)}")
        if self.frames < 2:
            raise BenchError(f"--frames: {self.frames} is no clip; wanted at least 2")


@dataclass(frozen=True)
class Work:
    """One medium: its scenes, and its settings with their knobs.

    left_out: methods that do not fit the checkpoint, and why.
    """

    medium: Medium
    scenes: Sequence[Scene]
    settings: Sequence[Setting]
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def questions(self) -> list[Question]:
        """Of all scenes, in order."""
        return [row for scene in self.scenes for row in scene.questions]


@dataclass
class Job:
    """A checked benchmark. common: what all rows of its file share."""

    asking: Asking
    parts: Parts
    works: Sequence[Work]
    common: Mapping[str, Any]

    @classmethod
    def of(cls, asking: Asking, folder: Path, tell: Callable[[str], None] = lambda text: None) -> Job:
        """Read the checkpoint, write what files lack, tune, and plan every setting.

        Errors: BenchError for a method that is asked for and does not fit, or that suits no medium.
        """
        parts = Parts(asking.checkpoint, asking.device, asking.dtype)
        for name in asking.methods:
            if not set(METHODS[name].media) & set(asking.media):
                only = " and ".join(NAMES[m] for m in METHODS[name].media)
                raise BenchError(f"--methods: {name} is for {only} only, which are not asked for")
        with one_thread(parts):
            works = [_work(asking, parts, medium, folder, tell) for medium in asking.media]
        where = resolve_device(asking.device)
        common = {
            "checkpoint": parts.fingerprint,
            "split": asking.split,
            "seed": asking.seed,
            "frames": asking.frames,
            "device": where.partition(":")[0],
            "dtype": resolve_dtype(asking.dtype, where),
        }
        return cls(asking, parts, works, common)

    def check_rows(self, rows: Iterable[Row], path: Path) -> None:
        """Errors: BenchError for rows of another benchmark."""
        for row in rows:
            made = row.get("run")
            if made == self.common:
                continue
            if not isinstance(made, dict) or made.keys() != self.common.keys():
                raise BenchError(f"{path}: holds rows of something else; choose another folder (-o)")
            name = next(name for name, value in self.common.items() if made[name] != value)
            raise BenchError(
                f"{path}: holds rows of another benchmark, {name} {made[name]} instead of "
                f"{self.common[name]}; choose another folder (-o)"
            )

    def todo(self, rows: Iterable[Row]) -> list[Task]:
        """What has no answer yet, scene by scene."""
        done = answers(rows)
        out: list[Task] = []
        for work in self.works:
            for scene in work.scenes:
                asked = [
                    (row, lacking)
                    for row in scene.questions
                    if (lacking := [s.id for s in work.settings if not _has(done, row["id"], s)])
                ]
                if asked:
                    out.append(Task(work.medium, scene, asked))
        return out


@dataclass(frozen=True)
class Task:
    """A scene, and its questions with the settings that have not answered them."""

    medium: Medium
    scene: Scene
    asked: Sequence[tuple[Question, Sequence[str]]]


class Runner:
    """One process's models and graphs: answers the questions of a scene with every setting."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.suites = {
            work.medium: Suite(job.parts, work.medium, work.settings, job.asking.frames) for work in job.works
        }

    def rows(self, task: Task) -> Iterator[Row]:
        """A row for each question. Everything that questions share is done once per scene."""
        suite, cache, ledger = self.suites[task.medium], Cache(None, memory=1 << 29), Ledger(None)
        for question, wanted in task.asked:
            found = suite.answer(
                task.scene.file, question["question"], task.scene.number, wanted, cache, ledger
            )
            yield {
                "run": dict(self.job.common),
                "id": question["id"],
                "medium": task.medium,
                "kind": question["kind"],
                "answer": question["answer"],
                "knobs": {s.id: s.knob for s in suite.settings if s.knob is not None and s.id in wanted},
                "said": {id: outcome.plain() for id, outcome in found.items()},
            }


def fill(job: Job, file: RowFile, jobs: int, on_row: Callable[[Row], None]) -> list[Row]:
    """Make the rows that the file lacks; all of its rows."""
    tasks = job.todo(file.rows)
    for row in _made(job, tasks, min(jobs, len(tasks))):
        file.append(row)
        file.rows.append(row)
        on_row(row)
    return list(file.rows)


def answers(rows: Iterable[Row]) -> dict[str, dict[str, tuple[float | None, list[Any]]]]:
    """By question and setting: the knob, and the fields of the outcome."""
    out: dict[str, dict[str, tuple[float | None, list[Any]]]] = {}
    for row in rows:
        knobs, by_setting = row.get("knobs", {}), out.setdefault(row["id"], {})
        by_setting.update({id: (knobs.get(id), outcome) for id, outcome in row["said"].items()})
    return out


@contextmanager
def one_thread(parts: Parts) -> Iterator[None]:
    """One thread while small models run on the CPU: several that wait for each other are slower."""
    import torch

    before = torch.get_num_threads()
    small = parts.language.hidden <= SMALL and resolve_device(parts.device) == "cpu"
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _has(done: Mapping[str, Mapping[str, tuple[float | None, Any]]], id: str, setting: Setting) -> bool:
    found = done.get(id, {}).get(setting.id)
    return found is not None and found[0] == setting.knob


def _made(job: Job, tasks: Sequence[Task], jobs: int) -> Iterator[Row]:
    """The rows, from this process or from several."""
    if jobs <= 1:
        with one_thread(job.parts):
            runner = Runner(job)
            for task in tasks:
                yield from runner.rows(task)
        return
    from multiprocessing import get_context

    with get_context("spawn").Pool(jobs, _begin, (job,)) as pool:
        for rows in pool.imap_unordered(_rows_of, tasks):
            yield from rows


_runner: Runner | None = None  # of a process of the pool


def _begin(job: Job) -> None:
    global _runner
    import torch

    torch.set_num_threads(1)
    _runner = Runner(job)


def _rows_of(task: Task) -> list[Row]:
    assert _runner is not None, "the pool's initialiser made it"
    return list(_runner.rows(task))


def _work(asking: Asking, parts: Parts, medium: Medium, folder: Path, tell: Callable[[str], None]) -> Work:
    """The scenes and settings of a medium. Asked for all methods, those that do not fit are left out."""
    found = scenes(
        folder, medium, split=asking.split, seed=asking.seed, frames=asking.frames, least=asking.number
    )
    names = [name for name in asking.methods or METHODS if medium in METHODS[name].media]
    left_out: dict[str, str] = {}
    settings: list[Setting] = []
    for name in names:
        mine = _settings(METHODS[name], asking.budgets)
        try:
            trial = [Setting(s.method, s.part, (s.of.knob or (0, None))[1]) for s in mine]
            Suite(parts, medium, trial, asking.frames).check(found[0].file)
        except BenchError as error:
            if asking.methods:
                raise
            left_out[name] = str(error)
            continue
        settings += mine
    if any(setting.of.knob for setting in settings):
        tell(f"{NAMES[medium]}: tuning to the budgets on {SCENES} scenes of the validation split")
        least = scenes(
            folder, medium, split="validation", seed=asking.seed, frames=asking.frames, least=SCENES * 8
        )[:SCENES]
        asked = [Asked(scene.file, scene.questions[0]["question"]) for scene in least]
        settings = tuned(settings, parts, medium, asking.frames, asked)
    return Work(medium, found, settings, left_out)


def _settings(method: Method, budgets: Sequence[float]) -> list[Setting]:
    return [Setting(method.name, part) for part in budgets] if method.budgets else [Setting(method.name)]
