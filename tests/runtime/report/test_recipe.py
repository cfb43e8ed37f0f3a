"""Recipes: what a run was made of, whole, and the same wherever it is read."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import torch

from tests.checkpoints import RANDOM
from tests.runtime.report.toys import forget_plugins
from tokenloom import Graph
from tokenloom.runtime.commands.words import apply_settings
from tokenloom.runtime.files import file_fingerprint
from tokenloom.runtime.pictures import write_png
from tokenloom.runtime.plan import Plan, plan
from tokenloom.runtime.registry import find, load_plugin
from tokenloom.runtime.report.again import values_again
from tokenloom.runtime.report.reading import graph_from, read_recipe
from tokenloom.runtime.report.recipe import KEYWORD, recipe_of, recipe_text
from tokenloom.runtime.values import Picture
from tokenloom.runtime.yamlfile import load


def planned(**params: object) -> Plan:
    """The toy graph with `--set seen.side=4`."""
    load_plugin(Path("mine.py"))
    graph = load("words.yaml")
    apply_settings(graph, ["seen.side=4"])
    return plan(graph, {"words": Path("hi.txt"), **params})


def png_of(made: Plan, output: str = "seen") -> Path:
    write_png(Picture(torch.zeros(2, 2, 3, dtype=torch.uint8)), Path("x.png"), recipe_text(made, output))
    return Path("x.png")


def test_a_recipe_is_read_back_from_a_picture(folder: Path) -> None:
    """Equal in every part; the graph, with what it extends and what was set, equals the planned one."""
    made = planned(times=3)
    recipe = read_recipe(png_of(made))
    assert replace(recipe, made="") == replace(recipe_of(made, "seen"), made="")
    assert graph_from(Path("x.png"), recipe) == made.graph
    assert recipe.params == {"words": str(folder / "hi.txt"), "times": 3, "ends": 0.0}
    assert (recipe.outputs, recipe.output) == (("answer", "seen", "counts"), "seen")


def test_a_recipe_is_ascii(folder: Path) -> None:
    """A tEXt chunk holds latin-1 only; whatever a path or question has is escaped."""
    (folder / "größe \U0001f600.txt").write_text("x")
    text = recipe_text(planned(words=Path("größe \U0001f600.txt")))
    assert text[KEYWORD].isascii()
    assert json.loads(text[KEYWORD])["params"]["words"] == str(folder / "größe \U0001f600.txt")
    assert text["Software"].startswith("tokenloom ")


def test_files_have_their_fingerprints(folder: Path) -> None:
    """Those of parameters, and those that the graph itself names."""
    load_plugin(Path("mine.py"))
    graph = load("words.yaml")
    apply_settings(graph, [f"read.path={folder / 'hi.txt'}"])
    recipe = recipe_of(plan(graph, {"words": Path("hi.txt")}))
    assert [(one.at, one.path) for one in recipe.files] == [
        ("words", str(folder / "hi.txt")),
        ("read.path", str(folder / "hi.txt")),
    ]
    assert {one.fingerprint for one in recipe.files} == {file_fingerprint("hi.txt")}


def test_nodes_and_versions_are_written_down(folder: Path) -> None:
    """Nodes of a plug-in with their file, wherever it lies with the same code; the libraries that compute."""
    recipe = recipe_of(planned())
    assert recipe.nodes["toy_read"].file == str(folder / "mine.py")
    assert {"tokenloom", "python", "torch"} <= set(recipe.versions)
    forget_plugins()
    os.rename("mine.py", "other.py")
    load_plugin(Path("other.py"))
    other = recipe_of(plan(load("words.yaml"), {"words": Path("hi.txt")})).nodes["toy_read"]
    assert other.file == str(folder / "other.py")
    assert other.code == recipe.nodes["toy_read"].code


def test_infinities_survive_json(folder: Path) -> None:
    """JSON has none; they are texts as YAML writes them."""
    recipe = recipe_of(planned(ends=math.inf))
    assert recipe.params["ends"] == ".inf"
    assert "Infinity" not in json.dumps(recipe.record())


def test_a_node_until_which_a_run_went_is_written_down(folder: Path) -> None:
    """Also the results that were asked for."""
    load_plugin(Path("mine.py"))
    words = {"words": Path("hi.txt")}
    assert recipe_of(plan(load("words.yaml"), words, until="read")).until == "read"
    assert recipe_of(plan(load("words.yaml"), words, outputs=["counts"])).outputs == ("counts",)


def test_what_only_python_can_give_is_told(folder: Path) -> None:
    """The recipe says what it lacks."""
    load_plugin(Path("mine.py"))
    picture = Picture(torch.zeros(1, 1, 3, dtype=torch.uint8))
    with Graph() as g:
        g.param("picture", Picture)
        g.output(seen=find("toy_count")(g.param("text", str)))
    recipe = recipe_of(plan(g, {"picture": picture, "text": "abc"}))
    assert recipe.lost == "picture was given in Python, and is not written down"
    assert recipe.params == {"text": "abc"}


def test_a_value_that_was_left_out_is_not_missed(folder: Path) -> None:
    """An optional wire of the graph to the outside."""
    load_plugin(Path("mine.py"))
    with Graph() as g:
        g.param("picture", Picture | None, default=None)
        g.output(seen=find("toy_count")(g.param("text", str)))
    recipe = recipe_of(plan(g, {"text": "abc"}))
    assert (recipe.lost, recipe.params) == ("", {"text": "abc"})
    assert values_again(Path("x"), recipe, graph_from(Path("x"), recipe), {}) == {"text": "abc"}


def test_a_checkpoint_in_a_relative_folder_is_found_from_anywhere(folder: Path) -> None:
    """A text that names a folder here is written as an absolute path; names stay."""
    (folder / "ckpt").symlink_to(RANDOM / "tiny-random")
    with Graph() as g:
        model = find("load_model")(checkpoint=g.param("checkpoint", str))
        other = g.named("other", find("load_model"))(checkpoint="ckpt")
        g.output(a=model.chat, b=other.chat)
    recipe = recipe_of(plan(g, {"checkpoint": "ckpt"}))
    assert recipe.params == {"checkpoint": str(folder / "ckpt")}
    assert graph_from(Path("x"), recipe).steps["other"].widgets == {"checkpoint": str(folder / "ckpt")}
    assert recipe_of(plan(g, {"checkpoint": "tiny-random"})).params == {"checkpoint": "tiny-random"}
