"""A training from recipe to checkpoint: its folder, its stages one after the other, and the record of it all.

DIR/log.jsonl        what was logged
DIR/training.json    recipe, seed, commit, machine; of each finished stage its time, curves and accuracy
DIR/checkpoints/     of the stage that runs, two at most
DIR/stages/          weights after each stage, heads of the training included
DIR/model/           the finished checkpoint, which `load_model` reads
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save

from ..device import resolve_device
from ..errors import Cancelled, did_you_mean
from ..files import write_whole
from ..version import __version__
from .checkpoints import checkpoints, clear_undone, step_of, writing
from .evaluate import evaluate
from .journal import Journal, clock, table
from .machine import commit, processor
from .model import TinyLlava
from .packer import TinyTokenPacker
from .pvc import TinyPvc
from .recipe import Recipe, Stage, TrainingError, differences
from .start import start_weights, take_weights
from .trainer import StageTrainer, stopping, stops_gently, weights_of
from .words import make_tokenizer

MODELS: dict[str, type[TinyLlava]] = {"llava": TinyLlava, "tokenpacker": TinyTokenPacker, "pvc": TinyPvc}


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    until: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Path | None:
    """The folder of the finished checkpoint; None when `until` ends it earlier.

    Errors: TrainingError for a folder that holds another run, an unknown stage, a loss that is no number,
    or a full disk; Cancelled after Ctrl-C, with a checkpoint written.
    """
    run = Run(recipe, out, device=device, quiet=quiet)
    run.open(resume=resume, until=until)
    with run.machine(), stops_gently(run.journal.say):
        return run.train(until)


class Run:
    """A training and its folder."""

    def __init__(self, recipe: Recipe, out: Path, *, device: str, quiet: bool) -> None:
        self.recipe, self.out = recipe, out
        self.device = resolve_device(device)
        if self.device.startswith("cuda:") and self.device != "cuda:0":
            raise TrainingError(
                f"device: {self.device} was asked for, and training takes the first one; choose by "
                "CUDA_VISIBLE_DEVICES"
            )
        self.journal = Journal(out, quiet=quiet)
        self.record: dict[str, Any] = {}
        self.tokenizer = make_tokenizer()

    def open(self, *, resume: bool, until: str | None) -> None:
        """Begin the folder, or take up what is there, if it is this recipe's."""
        names = [stage.name for stage in self.recipe.stages]
        if until is not None and until not in names:
            raise TrainingError(f"--until: no stage is called {until!r}{did_you_mean(until, names)}")
        path = self.out / "training.json"
        if path.exists() != resume:
            raise TrainingError(
                f"{self.out}: there is no run here to go on with (no training.json); leave --resume out"
                if resume
                else f"{self.out}: a run is here already; go on with it by --resume, or choose another --out"
            )
        if resume:
            self.record = json.loads(path.read_text(encoding="utf-8"))
            self._same(self.record["values"])
            clear_undone(self.out / "checkpoints")
        elif self.recipe.start is not None:
            start_weights(self.recipe.start)
        with writing(str(path), "nothing was changed"):
            self.out.mkdir(parents=True, exist_ok=True)
        before, facts = self.record.get("commit"), self._facts()
        self.record |= facts
        if resume and before != facts["commit"]:
            self.record.setdefault("earlier_commits", []).append(before)
        self.record.setdefault("stages", [])
        self._keep_record()

    def train(self, until: str | None) -> Path | None:
        """All stages that are not done yet, then the checkpoint."""
        torch.manual_seed(self.recipe.seed)
        model = MODELS[self.recipe.kind](self.recipe.sizes, len(self.tokenizer))
        done = len(self.record["stages"])
        if done:
            model.load_state_dict(load_file(self._weights(self.recipe.stages[done - 1])))
            self.journal.say(f"done before: {', '.join(one['name'] for one in self.record['stages'])}")
        elif self.recipe.start is not None:
            self.record["start"] = take_weights(model, self.recipe.start, self.journal)
        model.to(self.device)
        for number, stage in enumerate(self.recipe.stages):
            if number >= done:
                self._stage(model, number, stage)
            if stage.name == until and stage is not self.recipe.stages[-1]:
                self.journal.say(f"ended after {stage.name}, as asked; go on with --resume")
                return None
        from .export import export

        target = self.out / "model"
        with writing(str(target), f"the weights are in {self._weights(self.recipe.stages[-1])}"):
            export(model, self.tokenizer, target, self.record)
        return target

    def _stage(self, model: TinyLlava, number: int, stage: Stage) -> None:
        folder = self._checkpoints(stage.name)
        clear_undone(folder)
        found = checkpoints(folder)
        last = found[-1] if found else None
        done = step_of(last) if last else 0
        before = [one["name"] for one in self.record["stages"]]
        self.journal.keep(
            lambda entry: entry["stage"] in before or (entry["stage"] == stage.name and entry["step"] <= done)
        )
        trainer = StageTrainer(
            model, self.recipe, number, self.tokenizer, folder, self.journal, device=self.device
        )
        with self.journal.progress(stage.name, stage.steps, done):
            if last:
                self.journal.say(f"{stage.name}: going on from {last}")
            trainer.resume(last)
        if stopping() and trainer.state.global_step < stage.steps:
            self._stop(folder)
        self._finish(model, stage, trainer.seconds)
        shutil.rmtree(folder, ignore_errors=True)

    def _finish(self, model: TinyLlava, stage: Stage, seconds: float) -> None:
        """Evaluate, keep the weights, and note the stage as done."""
        accuracy = {
            str(frames): evaluate(
                model,
                self.tokenizer,
                frames=frames,
                count=count,
                seed=self.recipe.seed,
                precision=self.recipe.precision,
                questions=stage.questions,
                answers=stage.losses.lm > 0,
            )
            for frames, count in stage.evaluate.items()
        }
        for frames, shares in accuracy.items():
            for what, found in shares.items():
                self.journal.say(
                    f"{stage.name}, validation, frames {frames}, {what}, % right: {table(found)}"
                )
        path = self._weights(stage)
        with writing(str(path), f"the last checkpoint is in {self._checkpoints(stage.name)}"):
            path.parent.mkdir(exist_ok=True)
            write_whole(path, save(weights_of(model), {"format": "pt"}))
        self.record["stages"].append(
            {
                "name": stage.name,
                "steps": stage.steps,
                "seconds": round(seconds, 1),
                "validation": accuracy,
                "curve": self.journal.curve(stage.name),
            }
        )
        self._keep_record()
        self.journal.say(f"{stage.name}: done in {clock(seconds)}")

    def _stop(self, folder: Path) -> None:
        stopped = Cancelled("stopped")
        stopped.add_note(f"the last checkpoint is {checkpoints(folder)[-1]}")
        recipe = self.recipe.path or "RECIPE.yaml"
        stopped.add_note(f"go on with: tokenloom train {recipe} -o {self.out} --resume")
        raise stopped

    def _same(self, before: Mapping[str, Any]) -> None:
        """Refuse to go on with a recipe that would have led elsewhere; stages yet to begin may change."""
        begun = len(self.record["stages"])
        if begun < len(before["stages"]) and checkpoints(self._checkpoints(before["stages"][begun]["name"])):
            begun += 1
        if changed := differences(before, self.recipe.values(), stages=begun):
            raise TrainingError(
                f"{self.out}: this run was begun with another recipe; go on with that one, or choose another "
                "--out. What differs:\n" + "\n".join(f"  {one}" for one in changed)
            )

    @contextmanager
    def machine(self) -> Iterator[None]:
        """Threads as the recipe says, while it runs on a CPU."""
        before = torch.get_num_threads()
        if self.recipe.threads and self.device == "cpu":
            torch.set_num_threads(self.recipe.threads)
        if self.recipe.workers:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else the tokeniser warns at each fork
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _facts(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "title": recipe.title,
            "hash": recipe.hash(),
            "seed": recipe.seed,
            "commit": commit(),
            "tokenloom": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": torch.cuda.get_device_name()
            if self.device.startswith("cuda")
            else f"{self.device}, {processor()}",
            "threads": recipe.threads or torch.get_num_threads(),
            "recipe": recipe.text,
            "values": recipe.values(),
        }

    def _weights(self, stage: Stage) -> Path:
        return self.out / "stages" / f"{stage.name}.safetensors"

    def _checkpoints(self, stage: str) -> Path:
        return self.out / "checkpoints" / stage

    def _keep_record(self) -> None:
        path = self.out / "training.json"
        with writing(str(path), "checkpoints are as they were"):
            write_whole(path, (json.dumps(self.record, indent=1) + "\n").encode())
