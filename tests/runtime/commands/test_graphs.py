"""`tokenloom graphs`: the list, one graph, and its file to be copied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenloom.runtime.about import about, listed, own_copy
from tokenloom.runtime.cli import app
from tokenloom.runtime.layers import builtin_graphs
from tokenloom.runtime.yamlfile import load


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["graphs", *words])


def test_the_list_has_a_line_for_every_graph() -> None:
    """Name, title, base, what it takes, checkpoint; methods come first and bases last."""
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == listed()
    assert set(listed()) == set(builtin_graphs())
    assert listed()[-1].startswith("base/")
    assert lines[0].split() == ["graph", "what", "it", "is", "extends", "takes", "checkpoint"]


def test_the_list_is_json_too() -> None:
    """What a program wants to know of each."""
    facts = json.loads(run("--json").stdout)
    found = {one["name"]: one for one in facts["graphs"]}
    assert found["visionzip_qwen25vl"]["checkpoint"] is None
    assert "checkpoint" in found["visionzip_qwen25vl"]["needs"]
    assert found["mixes/visionzip_fastv"]["extends"] == ["visionzip", "base/llava15"]
    assert found["prunevid"]["takes"] == "a clip"


def test_one_graph_is_shown_with_parameters_and_stages() -> None:
    """And where its file lies, and how to make one's own of it."""
    text = run("mixes/visionzip_fastv").stdout
    assert text.startswith("mixes/visionzip_fastv: VisionZip, then FastV at layer 2, on LLaVA-1.5\nTwo cheap")
    for part in ("extends     visionzip on base/llava15", "graphs/mixes/visionzip_fastv.yaml", "dominant"):
        assert part in text
    assert "your own    tokenloom graphs mixes/visionzip_fastv --yaml > mine.yaml" in text


def test_one_graph_is_json_too() -> None:
    """Parameters with defaults, stages in order."""
    facts = json.loads(run("visionzip", "--json").stdout)
    params = {one["name"]: one for one in facts["params"]}
    assert params["keep"]["takes"] == "int 1.. or null"
    names = [one["name"] for one in facts["stages"]]
    assert names.index("dominant") < names.index("merged") < names.index("answer")


@pytest.mark.parametrize("name", listed())
def test_a_copy_may_lie_anywhere(name: str, tmp_path: Path) -> None:
    """It is the same graph there."""
    (tmp_path / "copy.yaml").write_text(own_copy(name), encoding="utf-8")
    assert load(tmp_path / "copy.yaml") == load(name)


def test_a_graph_file_of_ones_own_is_shown(tmp_path: Path) -> None:
    """By its path."""
    file = tmp_path / "mine.yaml"
    file.write_text("tokenloom: 1\ntitle: Mine\nextends: fastv.yaml\n")
    found = about(str(file))
    assert (found.name, found.extends) == (str(file), ("fastv", "base/llava15"))


def test_an_unknown_name_gets_a_suggestion() -> None:
    """And exit code 2."""
    result = run("prunvid")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: prunvid: no such graph file, and no built-in graph is called that; did you mean 'prunevid'?\n"
    )


def test_yaml_wants_a_name() -> None:
    """There is no file of all graphs."""
    result = run("--yaml")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: --yaml: of which graph? say tokenloom graphs NAME --yaml; `tokenloom graphs` lists them\n"
    )


def test_yaml_is_no_json() -> None:
    """Both at once are refused."""
    result = run("visionzip", "--yaml", "--json")
    assert (result.exit_code, result.stderr) == (2, "error: --yaml and --json: one or the other\n")
