"""The stand-alone projector: the graph's own tokens, ten lines, weights to train."""

from __future__ import annotations

import inspect
import runpy
import subprocess
import sys
from typing import cast

import pytest

from tokenloom.runtime.values import Tokens

from ..exact import run
from .test_examples import EXAMPLES, MEDIA

SCRIPT = EXAMPLES / "tokenpacker.py"
NAMES = runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(("scale", "count"), [(2, 144), (3, 64), (4, 36)])
def test_the_graphs_own_tokens(scale: int, count: int) -> None:
    """One parameter decides how many."""
    alone = cast("Tokens", NAMES["released"](MEDIA["image"], "tiny-random-tokenpacker", scale))
    image = MEDIA["image"]
    graph = run("tokenpacker", image=image, scale_factor=scale, outputs=["tokens"], cache=False)
    tokens = cast("Tokens", graph["tokens"])
    assert len(alone) == len(tokens) == count
    assert alone.features.equal(tokens.features)
    assert alone.member.equal(tokens.member)


def test_ten_lines() -> None:
    """Each function, from `def` to `return`."""
    for name in ("released", "fresh"):
        assert len(inspect.getsource(NAMES[name]).rstrip().split("\n")) <= 10


def test_fresh_weights_learn() -> None:
    """Gradients reach every part."""
    packed = NAMES["fresh"](width=32, outputs=8)
    assert packed.shape == (1, 144, 8)
    assert packed.requires_grad


def test_runs_without_arguments() -> None:
    """On the sample picture."""
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=True)
    assert done.stdout == "VisualTokens[16 x 128, float32, cpu]\n(1, 144, 4096)\n"
