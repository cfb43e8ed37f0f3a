"""One stage on transformers' Trainer: our batches, losses and optimiser; checkpoints whole or not at all."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup_lr_rate

from .checkpoints import checkpoints, write_checkpoint
from .data import StageBatches, only
from .journal import Journal, line
from .model import TinyLlava
from .optimiser import MuonAdamW
from .recipe import Losses, Recipe, Stage, TrainingError
from .samples import prefix_ids
from .steps import Tally, autocast, training_loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WEIGHTS = "model.safetensors"
RUN_FILE = "run.json"
"""Beside the Trainer's own files in a checkpoint: recipe, stage, seconds, and what is not logged yet."""


class StageTrainer(Trainer):  # type: ignore[misc]
    """Trains the parts that a stage names.

    Errors: TrainingError for a loss or gradient that is no number, or a checkpoint that cannot be written.
    """

    optimizer: Any
    lr_scheduler: Any
    _into: Path | None  # where a checkpoint is being written

    def __init__(
        self,
        model: TinyLlava,
        recipe: Recipe,
        number: int,
        tokenizer: PreTrainedTokenizerFast,
        folder: Path,
        journal: Journal,
        *,
        device: str,
    ) -> None:
        self.recipe, self.number, self.stage, self.folder = recipe, number, recipe.stages[number], folder
        self.tally, self.seconds, self._into = Tally(), 0.0, None
        freeze(model, self.stage)
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=self.stage.steps,
            per_device_train_batch_size=1,
            max_grad_norm=self.stage.clip,
            save_strategy="steps",
            save_steps=recipe.save_every,
            logging_strategy="no",
            logging_nan_inf_filter=False,
            report_to="none",
            remove_unused_columns=False,
            dataloader_num_workers=recipe.workers,
            dataloader_pin_memory=False,
            seed=recipe.seed,
            use_cpu=device == "cpu",
            disable_tqdm=True,
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # never torch's DataParallel over all that there are
        data: Any = StageBatches(recipe, number, tokenizer)
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=only,
            callbacks=[_Watch(self, journal)],
        )
        self.remove_callback(PrinterCallback)
        self._prefix = torch.tensor(prefix_ids(tokenizer), device=arguments.device)

    def resume(self, checkpoint: Path | None) -> None:
        """Train from there, or from the start, to the end of the stage."""
        if checkpoint is not None:
            told = json.loads((checkpoint / RUN_FILE).read_text())
            self.seconds = told["seconds"]
            self.tally = Tally(**told["tally"])
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def losses(self) -> Losses:
        """The weights at this step: that of cls rises over the first steps."""
        losses = self.stage.losses
        rise = self.stage.cls_warmup * self.stage.steps
        share = min(1.0, self.state.global_step / rise) if rise else 1.0
        return Losses(**{**asdict(losses), "cls": losses.cls * share})

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        """See Trainer. Errors: TrainingError for a loss that is no number."""
        tiny = self.model
        assert isinstance(tiny, TinyLlava)
        with autocast(self._prefix.device, self.recipe.precision):
            loss = training_loss(tiny, inputs["batch"], self._prefix, self.losses(), self.tally)
        self._finite(float(loss.detach()), "the loss")
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm: Any = super()._clip_grad_norm(model)
        self._finite(float(norm), "the gradient")
        return norm

    def _finite(self, value: float, what: str) -> None:
        """Before anything is learnt from it, so that what is kept stays sound."""
        if math.isfinite(value):
            return
        found = checkpoints(self.folder)
        good, again = "there is no checkpoint of this stage yet", "train anew"
        if found:
            good = f"the last good checkpoint is {found[-1]}"
            again += f", or on from its weights (start: {found[-1] / WEIGHTS})"
        raise TrainingError(
            f"{self.where()}: {what} is {value}, wanted a finite number; {good}. Lower muon "
            f"({self.stage.muon:g}), adamw ({self.stage.adamw:g}) or clip ({self.stage.clip:g}), and {again}"
        )

    def where(self) -> str:
        """Stage and step, for messages."""
        return f"stage {self.stage.name}, step {self.state.global_step + 1}"

    def create_optimizer(self, model: Any = None) -> Any:
        """See Trainer."""
        if self.optimizer is None:
            stage = self.stage
            self.optimizer = MuonAdamW(
                self._tiny(), muon=stage.muon, adamw=stage.adamw, weight_decay=stage.weight_decay
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """See Trainer."""
        if self.lr_scheduler is None:
            self.lr_scheduler = get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
                optimizer or self.optimizer,
                self.stage.warmup,
                num_training_steps,
                min_lr_rate=self.stage.floor,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """See Trainer; in the order of the stage."""
        data: Any = self.train_dataset
        loader: DataLoader[Any] = DataLoader(
            data,
            batch_size=1,
            sampler=SequentialSampler(data),
            collate_fn=only,
            num_workers=self.recipe.workers,
            worker_init_fn=_deaf,
        )
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._into or self.args.output_dir)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        step = self.state.global_step

        def fill(folder: Path) -> None:
            self._into = folder
            try:
                super(StageTrainer, self)._save_checkpoint(model, trial)
            finally:
                self._into = None
            (folder / f"checkpoint-{step}" / RUN_FILE).write_text(json.dumps(self._told()))

        write_checkpoint(self.folder, step, fill, where=f"stage {self.stage.name}, step {step}")

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The weights alone; the Trainer would add its settings, pickled."""
        assert output_dir is not None
        os.makedirs(output_dir, exist_ok=True)
        save_file(weights_of(self._tiny()), os.path.join(output_dir, WEIGHTS), {"format": "pt"})

    def _told(self) -> dict[str, Any]:
        return {
            "hash": self.recipe.hash(),
            "recipe": self.recipe.values(),
            "stage": self.stage.name,
            "number": self.number,
            "seconds": self.seconds,
            "tally": asdict(self.tally),
        }

    def _tiny(self) -> TinyLlava:
        assert isinstance(self.model, TinyLlava)
        return self.model

    def rates(self) -> list[float]:
        """Learning rates of the groups at this step."""
        assert self.optimizer is not None
        return [float(group["lr"]) for group in self.optimizer.param_groups]


def freeze(model: nn.Module, stage: Stage) -> None:
    """Only the parts that the stage names learn."""
    for part, module in model.named_children():
        module.requires_grad_(part in stage.train)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """All weights by name, on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Keeps the time, writes the log, and stops between two steps when asked to."""

    def __init__(self, trainer: StageTrainer, journal: Journal) -> None:
        self.trainer, self.journal = trainer, journal
        self.began = self.seen = 0.0
        self.first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began = self.seen = time.monotonic()
        self.first = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        self.trainer.seconds += now - self.seen
        self.seen = now
        step, steps = state.global_step, self.trainer.stage.steps
        self.journal.advance(step)
        if step % self.trainer.recipe.log_every == 0 or step == steps:
            left = (now - self.began) / (step - self.first) * (steps - step)
            self._log(step, left)
        if stopping():
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seen = time.monotonic()

    def _log(self, step: int, left: float) -> None:
        trainer = self.trainer
        entry: Mapping[str, Any] = {
            "stage": trainer.stage.name,
            "step": step,
            "of": trainer.stage.steps,
            "seconds": round(trainer.seconds, 2),
            "rates": trainer.rates(),
            **trainer.tally.means(),
        }
        self.journal.write(entry)
        self.journal.say(line(entry, left))
        trainer.tally = Tally()


_asked: list[int] = []


def stopping() -> bool:
    """Whether Ctrl-C, or SIGTERM, has been seen inside `stops_gently`."""
    return bool(_asked)


@contextmanager
def stops_gently(say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the step first; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _: Any) -> None:
        if _asked:
            raise KeyboardInterrupt
        _asked.append(number)
        say("stopping after this step; once more: at once, back to the last checkpoint")

    _asked.clear()
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def _deaf(_: int) -> None:
    """Workers leave Ctrl-C to the trainer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
