"""The JSON Schema of graph files: it takes what loads and refuses what does not."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from tokenloom.runtime.layers import builtin_graphs
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.schema import schema
from tokenloom.runtime.yamltree import LOADER

from . import loom_nodes
from .test_yamlfile import BASE, BRANCH, CHILD

assert loom_nodes  # registers the toy nodes


@pytest.fixture(scope="module")
def validator() -> Any:
    """A validator of the schema of every registered node."""
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def valid(validator: Any, text: str) -> bool:
    return bool(validator.is_valid(yaml.load(text, LOADER)))


@pytest.mark.parametrize("text", [BASE, CHILD, BRANCH], ids=["base", "child", "branch"])
def test_good_files_are_valid(validator: Any, text: str) -> None:
    """Whole files, files that extend, and composites."""
    assert valid(validator, text)


def test_builtin_graphs_are_valid(validator: Any) -> None:
    """Every graph that comes with tokenloom."""
    for path in builtin_graphs().values():
        validator.validate(yaml.load(path.read_text(), LOADER))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("tokenloom: 1", "tokenloom: 2"),
        ("tokenloom: 1", "title: x"),
        ("nodes:", "node:"),
        ("title: base", "title: [base]"),
        ("node: loom_clip", "node: loom_clap"),
        ("node: loom_encode, clip: $film", "node: loom_encode, clip: film"),
        ("node: loom_encode, clip: $film", "node: loom_encode"),
        ("node: loom_encode, clip: $film", "clip: $film"),
        ("path: $clip", "length: 1001"),
        ("path: $clip", "length: many"),
        ("path: $clip", "lenght: 1"),
        (", question: $question}", "}"),
        ("type: str", "type: text"),
        ("type: str", "tipe: str"),
        ("{answer: $answer}", "{answer: answer}"),
        ("film:", "2 films:"),
    ],
)
def test_wrong_files_are_refused(validator: Any, good: str, bad: str) -> None:
    """Unknown names, wrong values, missing wires: what `load` refuses without following wires."""
    assert good in BASE
    assert not valid(validator, BASE.replace(good, bad))


def test_a_file_that_extends_may_say_less(validator: Any) -> None:
    """Parts of inherited nodes and `null` are fine there, and only there."""
    text = "tokenloom: 1\nextends: base.yaml\nnodes: {film: null, patches: {clip: null}}\n"
    assert valid(validator, text)
    assert not valid(validator, text.replace("extends: base.yaml\n", ""))


def test_docstrings_become_descriptions() -> None:
    """Editors show the node's first paragraph and the lines of its inputs and settings."""
    node = schema({"loom_sort": all_nodes()["loom_sort"]})["$defs"]["node.loom_sort"]
    assert node["description"] == "The first `keep` beads, and the rest."
    assert node["properties"]["beads"]["description"] == "Beads"
    assert node["properties"]["keep"] == {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 576},
            {"$ref": "#/$defs/parameter"},
            {"type": "null"},
        ],
        "description": "beads that stay.",
        "default": 54,
    }
    assert node["properties"]["score"]["anyOf"][0] == {"enum": ["mean", "weight"]}
