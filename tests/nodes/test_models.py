"""The loading nodes give the same handles eagerly, in a graph, in its YAML and while planning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokenloom.nodes.models import Loaded, load_model, load_projector, load_vision_tower
from tokenloom.runtime.errors import LoomError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.models.pool import pool
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import run
from tokenloom.runtime.yamlfile import load

from .. import checkpoints as write


@pytest.fixture(autouse=True)
def _empty_pool() -> None:
    pool().release()


def model_graph(folder: Path) -> Graph:
    """All four outputs of load_model."""
    with Graph() as g:
        made = load_model(checkpoint=str(folder), dtype="bfloat16", device="cpu")
        g.output(vision=made.vision, projector=made.projector, llm=made.llm, chat=made.chat)
    return g


def test_load_model(tmp_path: Path) -> None:
    """load_model as a call, in a graph, and in YAML."""
    write.write_next_original(tmp_path)
    graph = model_graph(tmp_path)
    again = load(Path("copy.yaml"), text=graph.to_yaml())
    assert again == graph
    eager = load_model(checkpoint=str(tmp_path), dtype="bfloat16", device="cpu")
    for g in (graph, again):
        result = run(g, cache=False)
        assert Loaded(*(result[name] for name in Loaded._fields)) == eager


@pytest.mark.parametrize("node", [load_vision_tower, load_projector], ids=lambda n: n.name)
def test_single_parts(tmp_path: Path, node: Any) -> None:
    """load_vision_tower and load_projector as a call, in a graph, and in YAML."""
    write.write_llava15_original(tmp_path)
    folder = tmp_path / "vision_tower" if node is load_vision_tower else tmp_path
    with Graph() as g:
        g.output(out=node(checkpoint=str(folder)))
    again = load(Path("copy.yaml"), text=g.to_yaml())
    assert again == g
    assert run(g, cache=False)["out"] == run(again, cache=False)["out"] == node(checkpoint=str(folder))


def test_two_graphs_hold_one_copy(tmp_path: Path) -> None:
    """Handles from two runs of two graphs load one object."""
    write.write_llava15_original(tmp_path)
    first, second = (run(model_graph(tmp_path), cache=False)["llm"] for _ in range(2))
    assert first.load() is second.load()
    assert len(pool().resident()) == 1


def test_bad_weights_fail_while_planning(tmp_path: Path) -> None:
    """A wrong shape is found by the plan, before any node runs."""
    write.write_llava15_original(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file) | {"model.norm.weight": torch.ones(3)}, file)
    with pytest.raises(LoomError, match=r"model\.norm\.weight \[3\], wanted \[24\]"):
        plan(model_graph(tmp_path), {})
    assert pool().resident() == []


def test_planning_needs_no_transformers(tmp_path: Path) -> None:
    """Describing a checkpoint imports neither transformers nor a hub client."""
    write.write_next_original(tmp_path)
    code = (
        "import sys; from tokenloom.nodes.models import load_model; load_model(checkpoint=sys.argv[1]); "
        "assert not {'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
