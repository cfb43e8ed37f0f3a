"""Keys that are kept from plan to plan: every change is noticed, and nothing else is looked at again."""

from __future__ import annotations

import copy
import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime import keying, recipes, registry
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.graph import Graph, Wire
from tokenloom.runtime.keys import recipe_key
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import run

from . import engine_nodes as e


def keys(graph: Graph, params: dict[str, Any] | None = None, **options: Any) -> dict[str, str]:
    return {planned.id: planned.key for planned in plan(graph, params, **options).steps}


def from_scratch(graph: Graph, params: dict[str, Any] | None = None, **options: Any) -> dict[str, str]:
    """The keys of a plan that knows of no earlier one."""
    graph.arranged.clear()
    return keys(graph, params, **options)


def changed(old: dict[str, str], new: dict[str, str]) -> set[str]:
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def line() -> Graph:
    """start -> one -> two -> three, `two` with a parameter."""
    with Graph() as g:
        by = g.param("by", int, default=1)
        x = g.named("one", e.eng_add)(g.named("start", e.eng_number)())
        g.output(out=g.named("three", e.eng_add)(g.named("two", e.eng_add)(x, add=by)))
    return g


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The node types whose steps are keyed, in order."""
    names: list[str] = []
    real = recipe_key

    def noted(statics: Any, *rest: Any) -> str:
        names.append(statics.type.name)
        return real(statics, *rest)

    monkeypatch.setattr(recipes, "recipe_key", noted)
    return names


def test_only_what_follows_is_keyed_again(keyed: list[str]) -> None:
    """The same plan looks at the step with a parameter alone; another value, at what follows it too."""
    g = line()
    keys(g, {"by": 1})
    assert len(keyed) == 4
    keyed.clear()
    keys(g, {"by": 1})
    assert len(keyed) == 1
    keyed.clear()
    keys(g, {"by": 2})
    assert len(keyed) == 2


def test_a_changed_parameter_is_noticed() -> None:
    """Another value, and the old one again."""
    g = line()
    first, second = keys(g, {"by": 1}), keys(g, {"by": 2})
    assert changed(first, second) == {"two", "three"}
    assert keys(g, {"by": 1}) == first
    assert second == from_scratch(g, {"by": 2})


def test_a_changed_widget_is_noticed() -> None:
    """A step that is replaced by one with another setting changes itself and what follows."""
    g = line()
    first = keys(g)
    g.steps["one"] = replace(g.steps["one"], widgets={"add": 7})
    second = keys(g)
    assert changed(first, second) == {"one", "two", "three"}
    assert second == from_scratch(g)


def test_a_changed_wire_is_noticed() -> None:
    """A step that takes its input from elsewhere is another step."""
    g = line()
    first = keys(g)
    g.steps["three"] = replace(g.steps["three"], wires={"x": (Wire("one"),)})
    second = keys(g)
    assert changed(first, second) == {"two", "three"}  # two is not needed any more
    assert second == from_scratch(g)


def test_a_changed_when_is_noticed() -> None:
    """A step that a parameter switches off and on again."""
    with Graph() as g:
        on = g.param("on", bool, default=True)
        x = g.add(e.eng_add, [g.named("start", e.eng_number)()], id="maybe", when=on)  # type: ignore[arg-type]
        g.output(out=g.named("last", e.eng_text)(cast(int, x)))
    on_, off = keys(g, {"on": True}), keys(g, {"on": False})
    assert changed(on_, off) == {"maybe", "last"}
    assert keys(g, {"on": True}) == on_
    assert off == from_scratch(g, {"on": False})


def test_replaced_bytes_are_noticed(tmp_path: Path) -> None:
    """New bytes of the old size and with the old time, in a graph that is planned again unchanged."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    status = path.stat()
    with Graph() as g:
        g.output(out=g.named("read", e.eng_read)(path=path))
    cache = Cache(None)
    assert run(g, cache=cache)["out"] == run(g, cache=cache)["out"] == "one"
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(g, cache=cache)["out"] == "two"


def test_another_dtype_is_noticed() -> None:
    """Every key changes, and comes back with the dtype."""
    g = line()
    first, second = keys(g, dtype="float32"), keys(g, dtype="float16")
    assert changed(first, second) == set(first)
    assert keys(g, dtype="float32") == first


def test_another_device_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key changes with the class of the device (here mps, which is only named)."""
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    g = line()
    first, second = keys(g, device="cpu", dtype="float32"), keys(g, device="mps", dtype="float32")
    assert changed(first, second) == set(first)
    assert second == from_scratch(g, device="mps", dtype="float32")


def test_a_changed_value_parameter_is_noticed() -> None:
    """A value that is wired from a parameter counts by content."""
    with Graph() as g:
        g.output(out=g.named("last", e.eng_text)(g.named("add", e.eng_add)(g.param("x", int))))
    cache = Cache(None)
    assert [run(g, cache=cache, x=x)["out"] for x in (1, 2, 1)] == ["2", "3", "2"]


def test_an_impure_step_anywhere_is_never_kept() -> None:
    """It, and what follows it, have new keys in every plan; what stands beside keeps its own."""
    with Graph() as g:
        late = g.named("late", e.eng_same)(g.named("same", e.eng_same)(g.named("clock", e.eng_clock)()))
        g.output(late=late, aside=g.named("aside", e.eng_number)())
    assert changed(keys(g), keys(g)) == {"clock", "same", "late"}


def test_other_side_channels_are_noticed() -> None:
    """The producer's key follows what is asked of it, though its own step stays as it is."""
    with Graph() as g:
        tokens = g.named("encode", e.eng_encode)()
        g.output(count=g.named("count", e.eng_count)(tokens), keys=g.named("keys", e.eng_use_keys)(tokens))
    few, all_ = keys(g, outputs=["count"]), keys(g)
    assert few["encode"] != all_["encode"]
    assert keys(g, outputs=["count"]) == few


@pytest.mark.parametrize("removed", ["memory", "disk"])
def test_removed_entries_are_noticed(removed: str, tmp_path: Path) -> None:
    """A step whose value is gone from the cache runs again, though its key is known."""
    g, cache = line(), Cache(tmp_path if removed == "disk" else None)
    first = run(g, cache=cache)
    assert [row.cached for row in run(g, cache=cache).report] == ["memory"]
    cache.memory.clear()
    if cache.disk is not None:
        cache.disk.remove(first.plan.by_id["three"].key)
    again = {row.id: row.cached for row in run(g, cache=cache).report}
    assert again["three"] == ""
    assert again.get("two") == ("disk" if removed == "disk" else "")


def test_cached_results_touch_no_step_in_between() -> None:
    """When every result is in memory, the report has the results alone."""
    g, cache = line(), Cache(None)
    run(g, cache=cache)
    assert [row.id for row in run(g, cache=cache).report] == ["three"]


@pytest.mark.parametrize("module", ["nodes", "helpers"])
def test_reloaded_code_is_noticed(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reloaded node is another step; a reloaded helper changes the key of the step that was there."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(registry, "_nodes", dict(registry._nodes))
    monkeypatch.setattr(registry, "register", lambda made: None)
    package = tmp_path / f"eng_reload_{module}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helpers.py").write_text("def more(x):\n    return x + 1\n")
    (package / "nodes.py").write_text(
        "from tokenloom.runtime.node import node\nfrom . import helpers\n\n"
        '@node(name="eng_reloaded")\ndef work(x: int) -> int:\n    return helpers.more(x) * 10\n'
    )
    found = importlib.import_module(f"{package.name}.nodes")

    def graph() -> Graph:
        with Graph() as g:
            g.output(out=g.named("work", found.work)(g.named("start", e.eng_number)()))
        return g

    g, cache = graph(), Cache(None)
    assert run(g, cache=cache)["out"] == run(g, cache=cache)["out"] == 10
    text = package / f"{module}.py"
    text.write_text(text.read_text().replace("+ 1", "+ 22").replace("* 10", "* 230"))
    importlib.reload(sys.modules[f"{package.name}.{module}"])
    told = plan(g if module == "helpers" else graph(), cache=cache).why("work")
    name, place = (230, "nodes::work") if module == "nodes" else (220, "helpers::more")
    assert told == f"code of {package.name}.{place} changed"
    assert run(g if module == "helpers" else graph(), cache=cache)["out"] == name


def test_a_planned_graph_can_be_copied() -> None:
    """What plans have kept stays with the graph that they are of."""
    g = line()
    first = keys(g)
    copied = copy.deepcopy(g)
    assert copied == g
    assert keys(copied) == first


@given(st.data())
def test_kept_keys_are_those_of_a_fresh_plan(data: st.DataObject) -> None:
    """For any graph, any series of parameter values, and any steps that are replaced in between."""
    count = data.draw(st.integers(1, 8))
    with Graph() as g:
        params = [g.param(f"p{i}", int, default=0) for i in range(2)]
        made = [e.eng_number()]
        for i in range(count):
            sources = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
            by = data.draw(st.sampled_from([0, 1, *params]))
            made.append(g.named(f"n{i}", e.eng_add)(g.named(f"s{i}", e.eng_sum)(*sources), add=by))
        g.output(out=made[-1])
    for _ in range(4):
        values = {f"p{i}": data.draw(st.integers(0, 2)) for i in range(2)}
        if data.draw(st.booleans()):
            name = f"n{data.draw(st.integers(0, count - 1))}"
            g.steps[name] = replace(g.steps[name], widgets={"add": data.draw(st.integers(0, 2))})
        kept = keys(g, values)
        assert kept == from_scratch(g, values)


def test_without_a_cache_no_value_is_read_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that a run is given are large, and nobody looks their key up; the plan says why all runs."""
    read: list[Any] = []
    monkeypatch.setattr(keying, "value_key", lambda value: read.append(value) or "value:1")
    with Graph() as g:
        g.output(out=g.named("add", e.eng_add)(g.param("x", int)))
    made = plan(g, {"x": 1})
    assert run(g, cache=False, x=1)["out"] == 2
    assert not read
    assert made.why("add") == "no cache"
    run(g, cache=Cache(None), x=1)
    assert read == [1]
