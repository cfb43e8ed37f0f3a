"""The examples and the bundled graphs of the same name are the same thing in two languages."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tokenloom import Graph, load, run
from tokenloom.runtime.values import Tokens

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MEDIA = {"image": EXAMPLES / "media" / "shapes.png", "video": EXAMPLES / "media" / "shapes.mp4"}
GRAPHS = ("fastv", "llava15", "llava_next", "prunevid", "visionzip", "visionzip_next", "visionzip_video")


def builder(name: str) -> Callable[..., Graph]:
    """The function of `examples/NAME.py` that builds the graph."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("Callable[..., Graph]", getattr(module, name))


@pytest.mark.parametrize("name", GRAPHS)
def test_python_and_yaml_answer_alike(name: str) -> None:
    """Same answer, same tokens, in both languages, with every default that there is."""
    build, graph = builder(name), load(name)
    media = next(iter(inspect.signature(build).parameters))  # what it is about: a picture or a clip
    given: dict[str, Any] = {"checkpoint": "tiny-random-next"} if name.endswith("next") else {}
    given |= {"question": "What is in the picture?"} if given else {}
    written = run(build(MEDIA[media], **given), cache=False)
    params: dict[str, Any] = {media: MEDIA[media], **given}
    loaded = run(graph, cache=False, **params)
    assert written["answer"] == loaded["answer"] != ""
    ours, theirs = cast("Tokens", written["tokens"]), cast("Tokens", loaded["tokens"])
    assert torch.equal(ours.features, theirs.features)
    assert torch.equal(ours.member, theirs.member)


def test_an_example_without_arguments_takes_the_sample(tmp_path: Path) -> None:
    """From any folder; with an argument it takes that file."""
    script = str(EXAMPLES / "visionzip.py")
    said = [
        subprocess.run(
            [sys.executable, script, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        for words in ((), (str(ROOT / "graphs" / "media" / "scene.png"),))
    ]
    assert said[0].stdout == said[1].stdout == "orange\n"


@pytest.mark.parametrize("name", GRAPHS)
def test_examples_stay_short(name: str) -> None:
    """A graph in Python is 15 to 30 lines from `def` to `return`."""
    lines = inspect.getsource(builder(name)).rstrip().split("\n")
    assert 10 <= len(lines) <= 30


def test_a_stock_model_is_compressed_as_an_example() -> None:
    """Without arguments: ids of both, and the stages of the compressed one."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "compress.py")], capture_output=True, text=True, check=True
    )
    assert "65 -> kept 6, rest 59" in done.stdout
    assert "64 -> 8 placed, 8 kept" in done.stdout
