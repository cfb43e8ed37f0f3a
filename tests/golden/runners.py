"""Which function runs which kind of golden case: through public nodes, against `expected`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

DEFAULT = Path(__file__).parents[2] / ".." / "shared" / "golden"


@dataclass(frozen=True)
class Case:
    """One folder: case.json, and what lies beside it."""

    folder: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "case.json").read_text())
        return facts

    @property
    def kind(self) -> str:
        """`method: topic`, what runners are registered by: its topic, mode, function, or where it is from."""
        facts = self.facts
        topic = facts.get("topic") or facts.get("mode")
        if topic is None:  # a remark in brackets or after a comma is no part of the name
            made_by = facts.get("function") or facts["provenance"]
            topic = re.split(r"[ ,]*\(|, | followed by ", made_by)[0]
        return f"{self.folder.parent.name}: {topic}"

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return load_file(self.folder / "inputs.safetensors")

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        return load_file(self.folder / "expected.safetensors")

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    def tolerance(self, name: str) -> dict[str, Any]:
        """rtol and atol of the case for a tensor or group of that name; one that is not named counts as 0."""
        if "tolerance" in self.facts:  # by group, or flat: one for all floats of the case, beside remarks
            said = self.facts["tolerance"]
            flat: dict[str, Any] = {} if isinstance(said, str) else said  # in words: exact, or the runner's
            given = flat.get("float") or {k: v for k, v in flat.items() if k in ("rtol", "atol")}
        else:
            given = self.facts["tolerances"][name]
        return {"rtol": 0.0, "atol": 0.0, **given}

    def check(self, got: Tensor, want: Tensor | str, what: str = "", *, tolerance: str = "float") -> None:
        """Floats within the case's tolerance of that name, integers and bools exact; shapes always equal."""
        label = what or (want if isinstance(want, str) else "tensor")
        expected = self.expected[want] if isinstance(want, str) else want
        assert tuple(got.shape) == tuple(expected.shape), f"{self.name} {label}: {got.shape} {expected.shape}"
        if expected.is_floating_point():
            torch.testing.assert_close(
                got.to(expected.dtype),
                expected,
                **self.tolerance(tolerance),
                msg=lambda m: f"{self.name} {label}: {m}",
            )
        else:
            assert bool((got.to(expected.dtype) == expected).all()), f"{self.name} {label} differs"


Runner = Callable[[Case], None]
RUNNERS: dict[str, Runner] = {}


def runs(method: str, topic: str) -> Callable[[Runner], Runner]:
    """Register the runner of one kind of case."""

    def add(runner: Runner) -> Runner:
        RUNNERS[f"{method}: {topic}"] = runner
        return runner

    return add


def golden_root() -> Path | None:
    """The folder of TOKENLOOM_GOLDEN, or the default one; None when only the default is missing."""
    if named := os.environ.get("TOKENLOOM_GOLDEN"):
        if not Path(named).is_dir():
            raise FileNotFoundError(f"TOKENLOOM_GOLDEN={named}: no such folder")
        return Path(named)
    return DEFAULT.resolve() if DEFAULT.is_dir() else None


def all_cases() -> list[Case]:
    """Every case there is, sorted by name."""
    root = golden_root()
    if root is None:
        return []
    return [Case(file.parent) for file in sorted(root.glob("*/*/case.json"))]
