"""Which graph is the uncompressed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom import Graph, load
from tokenloom.runtime.ancestry import extended, uncompressed
from tokenloom.runtime.errors import GraphError


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("visionzip", "base/llava15"),
        ("visionzip_next", "base/llava_next"),  # which extends llava15 itself
        ("visionzip_video", "base/llava15"),
        ("prumerge_plus", "base/llava15"),
        ("prunevid", "base/pllava"),
        ("mixes/pyramid_drop", "base/llava15"),
    ],
)
def test_the_nearest_base(name: str, base: str) -> None:
    """Through any number of files, but no further than the first one in `base/`."""
    assert uncompressed(load(name)) == load(base)


def test_without_a_base_folder_the_last_counts(tmp_path: Path) -> None:
    """A user's own files may lie anywhere."""
    node = "tokenloom: 1\ntitle: {}\nnodes: {{image: {{node: load_image, path: a.png}}}}\n"
    (tmp_path / "plain.yaml").write_text(node.format("plain"))
    (tmp_path / "less.yaml").write_text("tokenloom: 1\ntitle: less\nextends: plain.yaml\n")
    (tmp_path / "least.yaml").write_text("tokenloom: 1\ntitle: least\nextends: less.yaml\n")
    found = [Path(file).name for file in extended(str(tmp_path / "least.yaml"))]
    assert found == ["less.yaml", "plain.yaml"]
    assert uncompressed(load(tmp_path / "least.yaml")).title == "plain"


def test_a_graph_that_extends_nothing_has_none() -> None:
    """It must be named."""
    graph = load("base/llava15")
    with pytest.raises(GraphError) as error:
        uncompressed(graph, "--kl")
    assert str(error.value) == (
        f"--kl: {graph.at} extends no other graph, so nothing says what it would be uncompressed; name that "
        "graph"
    )
    with pytest.raises(GraphError, match=r"^base: mine extends no other graph"):
        uncompressed(Graph("mine"))
