"""Reading recipes and result files: what is missing, damaged, newer or hostile is one clear error."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.runtime.report.toys import mine
from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.pictures import write_png
from tokenloom.runtime.report.reading import PNG, graph_from, read_recipe, read_result, recipe_from
from tokenloom.runtime.report.recipe import KEYWORD, checksum
from tokenloom.runtime.values import Picture

BLACK = Picture(torch.zeros(2, 2, 3, dtype=torch.uint8))
HERE = Path("x.json")


def written(name: str, text: str) -> Path:
    """A PNG with this text as its recipe."""
    write_png(BLACK, Path(name), {KEYWORD: text})
    return Path(name)


def changed(facts: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A recipe with other parts, its checksum put right, as somebody who means it would."""
    facts = {**facts, **parts}
    return {**facts, "checksum": checksum(facts)}


@pytest.fixture
def result(folder: Path) -> dict[str, Any]:
    """A result file of the toy graph."""
    assert mine("run", "words.yaml", "words=hi.txt", "--result", "r.json", "-q").exit_code == 0
    return dict(json.loads(Path("r.json").read_text()))


def message_of(read: Callable[[], object]) -> str:
    with pytest.raises(GraphError) as caught:
        read()
    return str(caught.value)


def test_files_without_a_recipe_are_named(folder: Path) -> None:
    """With what to do."""
    assert message_of(lambda: read_recipe(Path("no.png"))) == (
        "no.png: cannot be read: No such file or directory"
    )
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save("plain.png")
    assert message_of(lambda: read_recipe(Path("plain.png"))) == (
        "plain.png: this PNG holds no recipe; tokenloom writes one into its own, but programs that scale or "
        "edit pictures, and websites, often take it out: use the file that tokenloom wrote"
    )
    assert message_of(lambda: read_recipe(Path("hi.txt"))) == (
        "hi.txt: neither a PNG nor a result file (JSON), or cut off; wanted a PNG that tokenloom wrote, or "
        "what `tokenloom run ... --result FILE.json` writes"
    )
    Path("other.json").write_text('{"a": 1}')
    assert message_of(lambda: read_recipe(Path("other.json"))) == (
        "other.json: not a result file; wanted a PNG that tokenloom wrote, or what `tokenloom run ... "
        "--result FILE.json` writes"
    )


def test_a_damaged_chunk_is_noticed(folder: Path) -> None:
    """By its CRC; a file that ends within a chunk has no recipe."""
    data = written("x.png", "{}" * 20).read_bytes()
    at = data.index(b"{}{}")
    Path("bent.png").write_bytes(data[:at] + b"[" + data[at + 1 :])
    assert message_of(lambda: read_recipe(Path("bent.png"))) == (
        "bent.png: the recipe in it is damaged (its CRC differs); fetch it again"
    )
    Path("cut.png").write_bytes(data[: at - 20])
    assert "holds no recipe" in message_of(lambda: read_recipe(Path("cut.png")))


def test_a_chunk_that_claims_to_be_huge_is_not_read(folder: Path) -> None:
    """A length of gigabytes costs nothing."""
    head = struct.pack(">I4s", 2**31 - 1, b"tEXt") + KEYWORD.encode() + b"\0{}"
    Path("huge.png").write_bytes(PNG + head)
    assert "holds no recipe" in message_of(lambda: read_recipe(Path("huge.png")))


def test_pixels_are_not_looked_at(folder: Path) -> None:
    """A picture that no program could decode still has its recipe."""
    body = b"tEXt" + KEYWORD.encode() + b"\0[]"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    Path("odd.png").write_bytes(PNG + struct.pack(">I4s", 3, b"IHDR") + b"xxx" + b"crc!" + chunk)
    assert message_of(lambda: read_recipe(Path("odd.png"))) == (
        "odd.png: the recipe has not the form that tokenloom writes: it is no mapping"
    )


def test_a_recipe_that_is_no_json_is_told(folder: Path) -> None:
    """Also one that is nested beyond all measure."""
    for text in ("{", "[" * 200_000):
        assert message_of(lambda text=text: read_recipe(written("x.png", text))) == (
            "x.png: the recipe in it is no JSON; use an untouched copy"
        )


def test_a_recipe_that_was_changed_by_hand_is_refused(result: dict[str, Any]) -> None:
    """Every part counts."""
    facts = result["recipe"]
    for name in set(facts) - {"format", "checksum"}:
        assert message_of(lambda name=name: recipe_from(HERE, {**facts, name: "other"})) == (
            "x.json: the recipe was changed after tokenloom wrote it (its checksum differs); use an "
            "untouched copy, or write the graph down as YAML and run that"
        )


def test_newer_formats_are_told(result: dict[str, Any]) -> None:
    """Of a recipe, and of a result file."""
    assert message_of(lambda: recipe_from(HERE, changed(result["recipe"], format=2))) == (
        "x.json: a recipe of format 2; this tokenloom reads 1: update it"
    )
    HERE.write_text(json.dumps({**result, "tokenloom_result": 2}))
    assert message_of(lambda: read_result(HERE)) == (
        "x.json: result format 2; this tokenloom reads 1: update it"
    )


@pytest.mark.parametrize("worth", [None, 3, "x", [], ["x", 3], {"x": {}}, {"x": 3.5}, [{"at": "x"}]])
def test_parts_of_another_kind_are_refused(result: dict[str, Any], worth: Any) -> None:
    """Whatever stands where something else belongs: one error that names it, or a value that fits."""
    for name in set(result["recipe"]) - {"format", "checksum"}:
        try:
            recipe_from(HERE, changed(result["recipe"], **{name: worth}))
        except GraphError as error:
            wanted = f"x.json: the recipe has not the form that tokenloom writes: {name} is of another kind"
            assert str(error) == wanted  # noqa: PT017  (some values fit)
    for name in set(result) - {"tokenloom_result"}:
        HERE.write_text(json.dumps({**result, name: worth}))
        try:
            read_result(HERE)
        except GraphError as error:
            head = "x.json: the result has not the form that tokenloom writes: "
            assert str(error).startswith(head)  # noqa: PT017


@pytest.mark.parametrize("worth", [float("nan"), float("inf"), -1, 10**400, True])
def test_numbers_that_no_machine_measures_are_refused(result: dict[str, Any], worth: float) -> None:
    """They would only fail later, on the page."""
    HERE.write_text(json.dumps({**result, "seconds": worth}))
    assert message_of(lambda: read_result(HERE)) == (
        "x.json: the result has not the form that tokenloom writes: seconds is of another kind"
    )


def test_a_missing_part_is_named(result: dict[str, Any]) -> None:
    """Of a result file, too."""
    facts = {name: value for name, value in result["recipe"].items() if name != "params"}
    assert message_of(lambda: recipe_from(HERE, changed(facts))) == (
        "x.json: the recipe has not the form that tokenloom writes: params is missing"
    )
    HERE.write_text(json.dumps({name: value for name, value in result.items() if name != "stages"}))
    assert message_of(lambda: read_result(HERE)) == (
        "x.json: the result has not the form that tokenloom writes: stages is missing"
    )


@pytest.mark.parametrize(
    "graph",
    [
        "tokenloom: 1\nextends: secret.yaml\n",
        "tokenloom: 1\nnodes: {a: {node: secret.yaml}}\n",
    ],
)
def test_a_recipe_reads_no_other_graph_file(result: dict[str, Any], graph: str) -> None:
    """Ours never do; one that does was made by somebody else."""
    Path("secret.yaml").write_text("tokenloom: 1\n")
    recipe = recipe_from(HERE, changed(result["recipe"], graph=graph))
    assert message_of(lambda: graph_from(HERE, recipe)) == (
        "x.json: the recipe names another graph file ('secret.yaml'), and tokenloom never writes such a "
        "recipe; do not use this file"
    )


def test_yaml_tags_construct_nothing(result: dict[str, Any]) -> None:
    """Plain values only, as in every graph file."""
    graph = "tokenloom: 1\ntitle: !!python/object/apply:os.system [touch owned]\n"
    recipe = recipe_from(HERE, changed(result["recipe"], graph=graph))
    assert "is a tag; graph files hold plain values only" in message_of(lambda: graph_from(HERE, recipe))
    assert not Path("owned").exists()


def test_a_recipe_without_a_graph_says_why(result: dict[str, Any]) -> None:
    """What a graph file cannot say."""
    recipe = recipe_from(HERE, changed(result["recipe"], graph="", lost="params.x: no name"))
    assert message_of(lambda: graph_from(HERE, recipe)) == (
        "x.json: the recipe has no graph (params.x: no name); run it in Python again"
    )
