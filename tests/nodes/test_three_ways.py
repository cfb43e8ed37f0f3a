"""Every built-in node gives the same as a call, in a graph written in Python, and from a graph file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tokenloom.nodes.generate import Generated
from tokenloom.runtime.context import demand
from tokenloom.runtime.graph import Graph, Wire
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.run import run
from tokenloom.runtime.yamlfile import load

from ..checkpoints import RANDOM
from ..internvl import write_internvl
from ..qwen import write_qwen
from ..same import differences
from .chains import CHAINS

MEDIA = Path(__file__).parents[2] / "examples" / "media"
BUILTIN = sorted(
    name for name, node in all_nodes().items() if node.fn.__module__.startswith("tokenloom.nodes")
)
WAYS = ("python", "dumped", "written")


@cache
def written_in_python(name: str) -> Graph:
    """The chain as a graph; every output of every step is a result, so that nothing is pruned."""
    chain = CHAINS[name]
    with Graph() as g:
        chain.write(**{key: g.param(key, kind) for key, kind in chain.given.items()})
    return _all_out(g)


def _all_out(graph: Graph) -> Graph:
    for step in graph.steps.values():
        for output in step.type.outputs:
            graph.outputs[f"{step.id}-{output or 'out'}"] = Wire(step.id, output)
    return graph


def places(node: str) -> list[tuple[str, str]]:
    """Where the chains have this node: chain and step id."""
    return [
        (name, step.id)
        for name in CHAINS
        for step in written_in_python(name).steps.values()
        if step.type.name == node
    ]


@dataclass(frozen=True, eq=False)
class Ways:
    """Results of the chains, each made once: as calls, and in the three kinds of graph."""

    folder: Path
    params: dict[str, Any]

    def given(self, name: str) -> dict[str, Any]:
        return {key: self.params[key] for key in CHAINS[name].given}

    @cache  # noqa: B019  (as long as the module)
    def eager(self, name: str) -> dict[str, Any]:
        with demand(*CHAINS[name].wanted):
            return CHAINS[name].write(**self.given(name))

    @cache  # noqa: B019
    def graph(self, name: str, way: str) -> Graph:
        made = written_in_python(name)
        if way == "python":
            return made
        path = self.folder / f"{name}-{way}.yaml"
        path.write_text(made.to_yaml() if way == "dumped" else CHAINS[name].text, encoding="utf-8")
        return load(path) if way == "dumped" else _all_out(load(path))

    @cache  # noqa: B019
    def ran(self, name: str, way: str) -> dict[str, Any]:
        return dict(run(self.graph(name, way), cache=False, **self.given(name)).outputs)


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Ways:
    folder = tmp_path_factory.mktemp("ways")
    write_qwen(folder / "qwen")
    write_internvl(folder / "internvl")
    drawing = torch.zeros(60, 80, 3, dtype=torch.uint8)
    drawing[20:40, 30:60] = 255
    Image.fromarray(drawing.numpy()).save(folder / "mask.png")
    return Ways(
        folder,
        {
            "checkpoint": "tiny-random",
            "next_checkpoint": "tiny-random-next",
            "tower": str(RANDOM / "tiny-random" / "vision_tower"),
            "qwen": str(folder / "qwen"),
            "internvl": str(folder / "internvl"),
            "image": MEDIA / "shapes.png",
            "video": MEDIA / "shapes.mp4",
            "mask": folder / "mask.png",
        },
    )


def timeless(value: Any) -> Any:
    """An answer without its seconds, which no two runs share; anything else as it is."""
    if not isinstance(value, Generated):
        return value
    return value._replace(answer=replace(value.answer, prefill_seconds=0.0, decode_seconds=0.0))


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_shows_all_of_its_steps(name: str, ways: Ways) -> None:
    """What a chain's calls return lies under the ids of its steps, and by hand it is the same graph."""
    graph = written_in_python(name)
    assert ways.eager(name).keys() == graph.steps.keys()
    assert ways.graph(name, "dumped") == graph
    assert ways.graph(name, "written") == graph


@pytest.mark.parametrize("node", BUILTIN)
def test_every_node_is_in_a_chain(node: str) -> None:
    """A new node cannot be forgotten."""
    assert places(node), f"{node} is in no chain; add it, in Python and YAML, to tests/nodes/chains.py"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("node", BUILTIN)
def test_a_call_equals_a_step(node: str, way: str, ways: Ways) -> None:
    """Equal in type, dtype, shape and every number, wherever the chains have the node."""
    for name, step in places(node):
        want, got = timeless(ways.eager(name)[step]), ways.ran(name, way)
        outputs = all_nodes()[node].outputs
        made = {output: got[f"{step}-{output or 'out'}"] for output in outputs}
        whole = made[""] if "" in made else timeless(type(want)(**made))
        assert list(differences(whole, want, step)) == []
