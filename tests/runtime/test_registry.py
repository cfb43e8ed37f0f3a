"""The registry: built-in nodes, plug-in files, entry points, clashes and suggestions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tokenloom.runtime import registry
from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.node import node

PLUGIN = """
from tokenloom import node

@node
def {name}(*, keep: int = {keep}) -> int:
    \"\"\"What a plug-in gives.\"\"\"
    return keep
"""


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    registry.load_builtin()
    before, loaded = dict(registry._nodes), set(registry._loaded)
    yield
    registry._nodes.clear()
    registry._nodes.update(before)
    registry._loaded.clear()
    registry._loaded.update(loaded)


def plugin(folder: Path, name: str = "test_plugin", keep: int = 1, file: str = "mine.py") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(PLUGIN.format(name=name, keep=keep))
    return folder / file


def test_builtin_nodes_are_found_by_name() -> None:
    """Importing nothing but the registry is enough."""
    assert registry.find("load_video").name == "load_video"


def test_an_unknown_node_suggests_the_nearest() -> None:
    """A typing mistake is named with its cure."""
    with pytest.raises(GraphError) as caught:
        registry.find("load_vidoe")
    assert str(caught.value) == "no node is called 'load_vidoe'; did you mean 'load_video'?"


def test_an_unknown_node_may_be_a_plug_ins() -> None:
    """A name like no other is probably of a file that was not named."""
    with pytest.raises(GraphError) as caught:
        registry.find("xyzzy")
    assert str(caught.value) == (
        "no node is called 'xyzzy'; `tokenloom nodes` lists all, and --plugin FILE adds "
        "those of a file of yours"
    )


def test_every_builtin_node_explains_itself() -> None:
    """Signature, outputs and a sentence; every widget has a tooltip."""
    for made in registry.all_nodes().values():
        if not made.fn.__module__.startswith("tokenloom.nodes"):
            continue
        assert made.outputs, made
        assert made.sockets is not None
        assert made.summary.endswith((".", "?")), f"{made}: {made.summary!r}"
        assert [w.name for w in made.widgets.values() if not w.help] == [], made


def test_a_plugin_file_brings_its_nodes(tmp_path: Path) -> None:
    """`--plugin mine.py`; loading it twice is loading it once."""
    path = plugin(tmp_path)
    registry.load_plugin(path)
    made = registry.find("test_plugin")
    registry.load_plugin(path)
    assert registry.find("test_plugin") is made
    assert made() == 1


def test_two_plugin_files_may_share_a_name(tmp_path: Path) -> None:
    """Files are told apart by their whole path."""
    registry.load_plugin(plugin(tmp_path / "a", "test_one", 1))
    registry.load_plugin(plugin(tmp_path / "b", "test_two", 2))
    assert (registry.find("test_one")(), registry.find("test_two")()) == (1, 2)


def test_the_same_node_from_two_places_is_an_error(tmp_path: Path) -> None:
    """Both places are named."""
    registry.load_plugin(plugin(tmp_path / "a"))
    with pytest.raises(GraphError) as caught:
        registry.load_plugin(plugin(tmp_path / "b"))
    text = re.sub(r"_[0-9a-f]{8}:", ":", str(caught.value))
    where = "tokenloom_plugin_mine:4"
    assert text == f"node 'test_plugin' is defined twice: in {where} and in {where}; rename one"


def test_a_reload_of_the_same_place_replaces() -> None:
    """As a notebook cell or importlib.reload does."""

    def make(keep: int) -> None:
        @node(name="test_reloaded")
        def f() -> int:
            return keep

    make(1)
    make(2)
    assert registry.find("test_reloaded")() == 2


@pytest.mark.parametrize("name", ["missing.py", "folder"])
def test_a_missing_plugin_is_named(tmp_path: Path, name: str) -> None:
    """A folder is no plug-in file either."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(GraphError) as caught:
        registry.load_plugin(tmp_path / name)
    assert str(caught.value) == f"--plugin {tmp_path / name}: no such file"


def test_a_file_that_is_not_python_is_refused(tmp_path: Path) -> None:
    """By its suffix, without running it."""
    (tmp_path / "nodes.txt").write_text("hello")
    with pytest.raises(GraphError) as caught:
        registry.load_plugin(tmp_path / "nodes.txt")
    assert str(caught.value) == f"--plugin {tmp_path / 'nodes.txt'}: not a Python file"


def test_a_broken_plugin_keeps_its_own_error(tmp_path: Path) -> None:
    """The type stays, a note says which file it was, and a mended file loads."""
    path = tmp_path / "broken.py"
    path.write_text("1 / 0")
    with pytest.raises(ZeroDivisionError) as caught:
        registry.load_plugin(path)
    assert caught.value.__notes__ == [f"while importing --plugin {path}"]
    plugin(tmp_path, file="broken.py")
    registry.load_plugin(path)
    assert registry.find("test_plugin")() == 1


def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed plug-in that fails to import says which one it is, every time."""
    point = EntryPoint("theirs", "no_such_package.nodes", "tokenloom.nodes")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._loaded.discard("builtin")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError) as caught:
            registry.load_builtin()
        assert caught.value.__notes__ == ["while loading the plug-in 'theirs' (no_such_package.nodes)"]
