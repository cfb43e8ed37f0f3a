"""A training learns, goes on as if it had never stopped, and keeps what is good when it fails."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tokenloom.runtime.errors import Cancelled
from tokenloom.runtime.tiny.journal import Journal
from tokenloom.runtime.tiny.recipe import Losses, Recipe, TrainingError
from tokenloom.runtime.tiny.recipe_file import read_recipe
from tokenloom.runtime.tiny.training import train

from .recipes import EXAMPLES, SEE, TELL, but, small


def at_step(monkeypatch: pytest.MonkeyPatch, wanted: int, what: Any) -> None:
    """Do something after that step of a run, once."""
    advance, todo = Journal.advance, [wanted]

    def watched(self: Journal, step: int) -> None:
        advance(self, step)
        if step in todo:
            todo.clear()
            what()

    monkeypatch.setattr(Journal, "advance", watched)


def entries(out: Path) -> list[dict[str, Any]]:
    """The log without its times."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def recorded(out: Path) -> Any:
    """What training.json says."""
    return json.loads((out / "training.json").read_text())


def test_the_loss_goes_down(tmp_path: Path) -> None:
    """Fifty steps of the smallest recipe halve the loss of digits, and take a quarter off that of answers."""
    made = train(read_recipe(EXAMPLES / "smoke.yaml"), tmp_path / "run", quiet=True)
    assert made is not None
    assert made == tmp_path / "run" / "model"
    log = entries(tmp_path / "run")
    assert log[-1]["losses"]["lm"] < 0.75 * next(e["losses"]["lm"] for e in log if "lm" in e["losses"])
    assert log[-1]["losses"]["digit"] < 0.5 * log[0]["losses"]["digit"]
    told = recorded(tmp_path / "run")
    assert [(stage["name"], stage["steps"]) for stage in told["stages"]] == [("eyes", 20), ("all", 30)]
    assert told["stages"][1]["curve"][-1]["step"] == 30
    assert set(told["stages"][1]["validation"]) == {"1", "2"}
    assert told == json.loads((made / "training.json").read_text())


@pytest.mark.parametrize("gently", [True, False], ids=["Ctrl-C", "killed"])
def test_going_on_is_as_if_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gently: bool
) -> None:
    """Weights, log and accuracy are the same to the last bit, whether the stop was gentle or not."""
    recipe = small()
    train(recipe, tmp_path / "whole", quiet=True)

    class Killed(BaseException):
        """Ends the run as a kill would: nothing is written any more."""

    def kill() -> None:
        if not gently:
            raise Killed
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 8, kill)  # of the second stage; the last checkpoint of its own is of step 5
    with pytest.raises(Cancelled if gently else Killed):
        train(recipe, tmp_path / "halves", quiet=True)
    train(recipe, tmp_path / "halves", resume=True, quiet=True)
    for name in ("stages/see.safetensors", "stages/tell.safetensors", "model/model.safetensors"):
        whole, halves = (load_file(tmp_path / run / name) for run in ("whole", "halves"))
        assert all(torch.equal(whole[key], halves[key]) for key in whole), name
    assert entries(tmp_path / "whole") == entries(tmp_path / "halves")
    whole, halves = (recorded(tmp_path / run)["stages"] for run in ("whole", "halves"))
    assert [stage["validation"] for stage in whole] == [stage["validation"] for stage in halves]
    assert not list((tmp_path / "halves" / "checkpoints").glob("*"))


def test_a_kill_after_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that was learnt but not yet evaluated is evaluated when going on, and learns no more."""

    class Killed(BaseException):
        """Ends the run as a kill would."""

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("tokenloom.runtime.tiny.training.evaluate", kill)
        with pytest.raises(Killed):
            train(small(SEE), out, quiet=True)
    last = load_file(out / "checkpoints" / "see" / "checkpoint-6" / "model.safetensors")
    train(small(SEE), out, resume=True, quiet=True)
    done = load_file(out / "stages" / "see.safetensors")
    assert all(torch.equal(last[name], done[name]) for name in last)
    assert "1" in recorded(out)["stages"][0]["validation"]


def test_a_stop_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is of the very step, and the command stands in the notes."""
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Cancelled) as e:
        train(small(), tmp_path / "run", quiet=True)
    assert e.value.__notes__ == [
        f"the last checkpoint is {tmp_path}/run/checkpoints/see/checkpoint-3",
        f"go on with: tokenloom train RECIPE.yaml -o {tmp_path}/run --resume",
    ]
    assert signal.getsignal(signal.SIGINT) is before


def test_workers_change_nothing(tmp_path: Path) -> None:
    """Batches drawn ahead by another process are the same."""
    train(small(SEE), tmp_path / "none", quiet=True)
    train(small(SEE, workers=1), tmp_path / "one", quiet=True)
    none, one = (load_file(tmp_path / run / "stages" / "see.safetensors") for run in ("none", "one"))
    assert all(torch.equal(none[key], one[key]) for key in none)


def test_parts_that_do_not_train_stay(tmp_path: Path) -> None:
    """`train: [vision, heads]` leaves the language model and the projector as they were made."""
    train(small(SEE, TELL), tmp_path / "run", quiet=True, until="see")
    torch.manual_seed(0)
    from tokenloom.runtime.tiny.model import TinyLlava
    from tokenloom.runtime.tiny.words import make_tokenizer

    fresh = TinyLlava(small().sizes, len(make_tokenizer())).state_dict()
    seen = load_file(tmp_path / "run" / "stages" / "see.safetensors")
    changed = {name.split(".")[0] for name in fresh if not fresh[name].equal(seen[name])}
    assert changed == {"vision", "heads"}


def test_at_most_two_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older ones are removed once a new one is whole."""
    folder = tmp_path / "run" / "checkpoints" / "tell"
    found: list[list[str]] = []
    at_step(monkeypatch, 12, lambda: found.append(sorted(p.name for p in folder.iterdir())))
    train(small(TELL, save_every=2), tmp_path / "run", quiet=True)
    assert found == [["checkpoint-10", "checkpoint-8"]]


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file can grow beyond `limit` bytes: the system refuses, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [100_000, 500_000], ids=["weights", "optimiser"])
def test_a_disk_full_in_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """The last good checkpoint stays, nothing half written does, and the run can go on from there."""
    recipe, out = small(TELL), tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_step(monkeypatch, 7, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1])))
    try:
        with pytest.raises(TrainingError) as e:
            train(recipe, out, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(e.value).startswith("stage tell, step 10: the checkpoint could not be written: ")
    assert str(e.value).endswith(
        f"; the last good one is {out}/checkpoints/tell/checkpoint-5. Make room, then go on with --resume"
    )
    assert [p.name for p in (out / "checkpoints" / "tell").iterdir()] == ["checkpoint-5"]
    assert train(recipe, out, resume=True, quiet=True) == out / "model"


def test_a_disk_full_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the finished checkpoint the weights of the last stage are named."""
    out = tmp_path / "run"
    train(small(SEE), out, quiet=True)
    with small_files(100_000), pytest.raises(TrainingError) as e:
        train(small(SEE), out, resume=True, quiet=True)
    assert f"{out}/model could not be written: " in str(e.value)
    assert f"; the weights are in {out}/stages/see.safetensors. Make room" in str(e.value)
    assert (out / "model" / "config.json").exists()  # that of the first time


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    """Training stops at once, and the checkpoint from before is named and sound."""
    out = tmp_path / "run"
    wild = but(TELL, muon=1e38, warmup=8)
    with pytest.raises(TrainingError) as e:
        train(small(wild, save_every=1), out, quiet=True)
    step = int(str(e.value).split(",")[1].split(":")[0].removeprefix(" step "))
    last = out / "checkpoints" / "tell" / f"checkpoint-{step - 1}"
    assert str(e.value) == (
        f"stage tell, step {step}: {_what(e.value)} is nan, wanted a finite number; the last good checkpoint "
        f"is {last}. Lower muon (1e+38), adamw (0.002) or clip (1), and train anew, or on from its weights "
        f"(start: {last}/model.safetensors)"
    )
    kept = load_file(last / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())


def _what(error: Exception) -> str:
    return "the gradient" if "the gradient" in str(error) else "the loss"


def test_another_recipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was begun goes on with its own recipe only; the keys that differ are named."""
    out = tmp_path / "run"
    at_step(monkeypatch, 8, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Cancelled):
        train(small(), out, quiet=True)
    with pytest.raises(TrainingError) as e:
        train(small(but(SEE, muon=0.5), but(TELL, losses=Losses(lm=2))), out, resume=True, quiet=True)
    assert str(e.value) == (
        f"{out}: this run was begun with another recipe; go on with that one, or choose another --out. What "
        "differs:\n"
        "  stage 1.muon: 0.02 -> 0.5\n"
        "  stage 2.losses.lm: 1 -> 2\n"
        "  stage 2.losses.patch: 0.3 -> 0.0\n"
        "  stage 2.losses.cls: 0.3 -> 0.0\n"
        "  stage 2.losses.change: 0.5 -> 0.0"
    )


def test_a_later_stage_may_change(tmp_path: Path) -> None:
    """What has not begun may be written anew, and threads and titles at any time."""
    out = tmp_path / "run"
    third = but(SEE, name="third")
    train(small(SEE, third), out, quiet=True, until="see")
    later = but(third, name="last", steps=2, warmup=1)
    assert train(small(SEE, third, later, title="New"), out, resume=True, quiet=True) == out / "model"


@pytest.mark.parametrize(
    ("resume", "until", "message"),
    [
        (True, None, "{out}: there is no run here to go on with (no training.json); leave --resume out"),
        (False, "sea", "--until: no stage is called 'sea'; did you mean 'see'?"),
    ],
)
def test_a_run_that_cannot_begin(tmp_path: Path, resume: bool, until: str | None, message: str) -> None:
    """Nothing is written."""
    out = tmp_path / "run"
    with pytest.raises(TrainingError) as e:
        train(small(), out, resume=resume, until=until, quiet=True)
    assert str(e.value) == message.format(out=out)
    assert not out.exists()


def test_a_folder_with_a_run(tmp_path: Path) -> None:
    """A second run does not write over the first."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "training.json").write_text("{}")
    with pytest.raises(TrainingError) as e:
        train(small(), out, quiet=True)
    assert str(e.value) == (
        f"{out}: a run is here already; go on with it by --resume, or choose another --out"
    )


def test_start_takes_what_agrees(tmp_path: Path) -> None:
    """Weights of an earlier run by name and shape; the record says what was taken and what is new."""
    train(small(SEE), tmp_path / "first", quiet=True)
    recipe = small(
        but(SEE, steps=1, warmup=1, losses=Losses(patch=1)), start=tmp_path / "first", kind="tokenpacker"
    )
    train(recipe, tmp_path / "second", quiet=True)
    told = recorded(tmp_path / "second")["start"]
    assert told["from"] == f"{tmp_path}/first/stages/see.safetensors"
    assert set(told["taken"]) == {"vision", "llm", "heads"}
    assert set(told["new"]) == {"projector"}
    first, second = (load_file(tmp_path / run / "stages" / "see.safetensors") for run in ("first", "second"))
    name = "llm.model.embed_tokens.weight"
    assert torch.equal(first[name], second[name])


def test_start_needs_a_run(tmp_path: Path) -> None:
    """What is no finished run, no weights, or not there at all is refused before anything is written."""
    (tmp_path / "bad.safetensors").write_bytes(b"none")
    said = {}
    for name in ("none", "", "bad.safetensors"):
        with pytest.raises(TrainingError) as e:
            train(small(SEE, start=tmp_path / name), tmp_path / "run", quiet=True)
        said[name] = str(e.value)
        assert not (tmp_path / "run").exists()
    assert said == {
        "none": f"start: there is no {tmp_path}/none; wanted the folder of an earlier run, or a .safetensors "
        "file: train that first, or name another",
        "": f"start: {tmp_path} is no folder of `tokenloom train` with a finished stage",
        "bad.safetensors": f"start: {tmp_path}/bad.safetensors is no sound .safetensors file "
        "(Error while deserializing header: header too small); name another",
    }


@pytest.mark.parametrize("kind", ["tokenpacker", "pvc"])
def test_the_other_kinds_train(tmp_path: Path, kind: str) -> None:
    """TokenPacker and PVC go through the same steps, on pictures and clips."""
    parts = ("vision", "projector", "llm", "heads") + ("temporal",) * (kind == "pvc")
    recipe: Recipe = small(but(TELL, steps=4, train=parts), kind=kind)
    assert train(recipe, tmp_path / "run", quiet=True) == tmp_path / "run" / "model"
    assert set(recorded(tmp_path / "run")["stages"][0]["validation"]["2"]["answers"]) >= {"all", "event"}
