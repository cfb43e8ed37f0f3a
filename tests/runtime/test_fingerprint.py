"""Code fingerprints: helpers count, comments do not. Modules are written, imported and reloaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tokenloom.runtime.fingerprint import Code, fingerprint

NODES = '''
from eng_pack.helpers import LIMIT, scale
from eng_pack import ops, table
from tokenloom.runtime.node import node
{decorator}
def work(x{annotation}, *, by: int = {default}):
    """{docstring}"""
    {comment}
    total = scale(x) + ops.deep.shift(x) + LIMIT + Helper().run(x)
    return table.TABLE["a"](total) + by

class Helper:
    def run(self, x):
        return x + {method}
'''
BASE = {
    "decorator": '@node(name="eng_work")',
    "annotation": "",
    "default": "1",
    "docstring": "Works.",
    "comment": "# nothing",
    "method": "1",
}


class Pack:
    """A package `eng_pack` on disk, with a node, helpers, a submodule, a table and a lazy import."""

    def __init__(self, root: Path) -> None:
        self.root = root / "eng_pack"
        (self.root / "ops").mkdir(parents=True)
        self.write("__init__.py", "")
        self.write("ops/__init__.py", "from . import deep")
        self.write("ops/deep.py", "def shift(x):\n    return x + 2\n")
        self.write(
            "helpers.py",
            "LIMIT = 3\n\ndef scale(x):\n    return inner(x)\n\ndef inner(x):\n    return x * 2\n",
        )
        self.write(
            "table.py", "def one(x):\n    from .lazy import late\n    return late(x)\n\nTABLE = {'a': one}\n"
        )
        self.write("lazy.py", "def late(x):\n    return x\n\ndef unused(x):\n    return x\n")
        self.write("nodes.py", NODES.format(**BASE))

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def code(self) -> Code:
        """Import everything afresh."""
        for name in [n for n in sys.modules if n.split(".")[0] == "eng_pack"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        module: ModuleType = importlib.import_module("eng_pack.nodes")
        return fingerprint(module.work)


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pack]:
    from tokenloom.runtime import registry

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(registry, "_nodes", dict(registry._nodes))
    monkeypatch.setattr(registry, "register", lambda made: None)
    yield Pack(tmp_path)
    for name in [n for n in sys.modules if n.split(".")[0] == "eng_pack"]:
        del sys.modules[name]


def rewritten(**changes: str) -> Callable[[Pack], None]:
    return lambda pack: pack.write("nodes.py", NODES.format(**{**BASE, **changes}))


@pytest.mark.parametrize(
    "change",
    [
        rewritten(comment="# something else"),
        rewritten(docstring="Works differently told."),
        rewritten(decorator='\n\n@node(\n    name="eng_work",\n    version=2,\n)'),
        rewritten(annotation=": float"),
        lambda pack: pack.edit("helpers.py", "def scale", "# a comment\n\n\ndef scale"),
        lambda pack: pack.edit("lazy.py", "def unused(x):\n    return x", "def unused(x):\n    return -x"),
        lambda pack: pack.write("other.py", "x = 1"),
    ],
    ids=["comment", "docstring", "decorator", "annotation", "helper comment", "unused helper", "other file"],
)
def test_what_does_not_count(pack: Pack, change: Callable[[Pack], None]) -> None:
    """Comments, docstrings, the node's decorator, annotations, layout and unreached code leave it alone."""
    before = pack.code()
    change(pack)
    assert pack.code() == before


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (rewritten(default="2"), "eng_pack.nodes::work"),
        (rewritten(method="5"), "eng_pack.nodes::Helper"),
        (lambda pack: pack.edit("helpers.py", "x * 2", "x * 4"), "eng_pack.helpers::inner"),
        (lambda pack: pack.edit("helpers.py", "LIMIT = 3", "LIMIT = 4"), "eng_pack.helpers::LIMIT"),
        (lambda pack: pack.edit("ops/deep.py", "x + 2", "x + 1"), "eng_pack.ops.deep::shift"),
        (
            lambda pack: pack.edit("lazy.py", "def late(x):\n    return x", "def late(x):\n    return -x"),
            "eng_pack.lazy::late",
        ),
    ],
    ids=["default", "method", "helper of a helper", "constant", "module attribute", "lazy import in a table"],
)
def test_what_counts(pack: Pack, change: Callable[[Pack], None], name: str) -> None:
    """Defaults, methods, helpers of helpers, constants, `module.attr` chains and lazy imports change it."""
    before = pack.code()
    change(pack)
    after = pack.code()
    assert after.digest != before.digest
    assert {k for k in after.parts if before.parts.get(k) != after.parts[k]} == {name}


def test_code_that_runs_counts_not_code_on_disk(pack: Pack) -> None:
    """A module edited after its import is told by the bytecode that runs, not by the new text."""
    pack.code()
    module = sys.modules["eng_pack.nodes"]
    pack.write("nodes.py", NODES.format(**{**BASE, "method": "7"}))
    from tokenloom.runtime import fingerprint as fp

    fp._memo.clear()
    running = fingerprint(module.work)
    assert running != pack.code()


def test_only_the_own_package_is_followed() -> None:
    """Parts lie in the node's own package or in tokenloom, and never in torch."""
    from .engine_nodes import eng_halve

    parts = fingerprint(eng_halve.fn).parts
    own = eng_halve.fn.__module__
    assert f"{own}::eng_halve" in parts
    assert "tokenloom.runtime.values.tokens::Tokens" in parts
    assert {name.split(".")[0] for name in parts} == {own.split(".")[0], "tokenloom"}


def test_closures_count_by_value() -> None:
    """A function made inside another counts with the values it closes over."""

    def make(k: int) -> Callable[[int], int]:
        def inner(x: int) -> int:
            return x + k

        return inner

    assert fingerprint(make(1)).digest != fingerprint(make(2)).digest
    assert fingerprint(make(1)).digest == fingerprint(make(1)).digest
