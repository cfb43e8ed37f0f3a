"""The pages in docs/: what is made from graphs is current; links, commands and settings are good."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.pages import DOCS, DRAWINGS, PART, drawings, pages, stale, written
from tokenloom.runtime.commands.words import given_params, value_of
from tokenloom.runtime.errors import LoomError
from tokenloom.runtime.registry import find
from tokenloom.runtime.yamlfile import load

METHODS = sorted((DOCS / "methods").glob("*.md"))
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
COMMAND = re.compile(r"^tokenloom run (\S+)([^#\n]*)", re.MULTILINE)


def name(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def test_tables_and_drawings_are_current() -> None:
    """Otherwise run `python -m docs.pages`."""
    assert [name(path) for path in stale()] == []


def test_what_is_written_once_is_written_the_same_again() -> None:
    """Writing a written page changes nothing."""
    for path in pages():
        text = written(path.read_text(encoding="utf-8"))
        assert written(text) == text


def test_drawings_are_of_no_machine() -> None:
    """No folder of whoever made them is in them, and they are well-formed."""
    for path, text in drawings():
        ElementTree.fromstring(text)
        assert "site-packages" not in text, path
        assert str(DOCS.parent) not in text, path


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every link to a file of the repository."""
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_method_has_a_page_that_the_index_links() -> None:
    """And the index links all of them."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [path.stem for path in METHODS] == sorted({n.partition("_")[0] for n in DRAWINGS})
    assert [path.name for path in METHODS if f"(methods/{path.name})" not in index] == []


@pytest.mark.parametrize("path", METHODS, ids=name)
def test_a_page_of_a_method_says_what_it_should(path: Path) -> None:
    """Paper, drawing, how to run it, parameters, and the licence of the original."""
    text = path.read_text(encoding="utf-8")
    for part in ("https://arxiv.org/abs/", f"({path.stem}.svg)", "## Run it", "<!-- parameters "):
        assert part in text
    assert "## Licence of the original" in text
    assert "tokenloom contains" in " ".join(text.split())


@pytest.mark.parametrize("path", METHODS, ids=name)
def test_commands_name_graphs_and_parameters_that_are_there(path: Path) -> None:
    """What follows `tokenloom run` is checked as the command line would."""
    for graph, rest in COMMAND.findall(path.read_text(encoding="utf-8")):
        words = [word for word in re.findall(r'\w+="[^"]*"|\S+', rest) if "=" in word]
        given_params(load(graph), [word.replace('"', "") for word in words])


@pytest.mark.parametrize("path", METHODS, ids=name)
def test_options_of_the_other_reading_exist(path: Path) -> None:
    """Each `setting: value` of a page is one of a node whose settings the page lists, or of a graph's."""
    text = path.read_text(encoding="utf-8")
    nodes = [find(m[3].split()[0]) for m in PART.finditer(text) if m[2] == "settings"]
    params = [load(m[3].split()[0]).params for m in PART.finditer(text) if m[2] == "parameters"]
    widgets = [w for node in nodes for w in node.widgets.values()]
    widgets += [p.widget for some in params for p in some.values() if p.widget]
    own = PART.sub("", text)
    for setting, value in re.findall(r"`(\w+): ([\w.]+)`", own):
        fitting = [w for w in widgets if w.name == setting]
        assert fitting, setting
        assert any(accepts(w, value) for w in fitting), (setting, value)


def accepts(widget: object, text: str) -> bool:
    try:
        value_of("x", widget, text)  # type: ignore[arg-type]
    except LoomError:
        return False
    return True
