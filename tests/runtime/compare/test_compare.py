"""Comparisons of real graphs: what runs once, what each is charged with, and that nothing differs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tokenloom import compare, run, sweep
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.compare.comparison import Comparison
from tokenloom.runtime.models.pool import pool

from .faulty import PICTURE, TINY, Seen, broken

GRAPHS = ["visionzip", "fastv", "lookm", "prumerge", "visionzip:keep=9,5:targets=2"]
NAMES = [
    "base/llava15", "visionzip", "fastv", "lookm", "prumerge", "visionzip keep=9 targets=2",
    "visionzip keep=5 targets=2",
]  # fmt: skip
seen = Seen()


@pytest.fixture(scope="module")
def found() -> Comparison:
    """Six graphs and their base, without the cache."""
    pool().release()
    return compare(GRAPHS, cache=False, subscribers=[seen], image=PICTURE, **TINY)


def test_columns_are_the_base_and_the_graphs(found: Comparison) -> None:
    """The base comes first, once; a graph with two values is two columns."""
    assert [column.name for column in found] == NAMES
    assert [column.is_base for column in found] == [True] + [False] * 6
    assert found.ok


def test_shared_stages_run_once(found: Comparison) -> None:
    """Seven graphs read one model, decode one picture, and run the tower once, though four want no [CLS]."""
    done = Counter(seen.done)
    once = ("load_model", "load_image", "preprocess", "render_chat", "encode_vision", "patches_alone")
    assert {name: done[name] for name in once} == dict.fromkeys(once, 1)
    assert done["generate"] == 7
    assert done["project_mlp"] == 5  # base, FastV and LOOK-M share one
    assert seen.cached == []
    assert len(pool().resident()) == len({one.handle.loader for one in pool().resident()})


def test_a_prefill_with_side_channels_is_not_shared(found: Comparison) -> None:
    """LOOK-M's prefill also sums attention: the base does not pay for that."""
    assert [stage.shared for stage in found["base/llava15"].stages if stage.id == "state"] == [1]
    assert [stage.side for stage in found["base/llava15"].stages if stage.id == "state"] == [()]
    assert [stage.side for stage in found["lookm"].stages if stage.id == "state"] == [("cache_attention",)]


@pytest.mark.parametrize("name", ["visionzip", "fastv", "lookm", "prumerge", "base/llava15"])
def test_a_column_is_what_the_graph_alone_gives(found: Comparison, name: str) -> None:
    """Answer, tokens of every stage and FLOPs are those of a run by itself, which shares nothing."""
    alone = run(name, cache=False, image=PICTURE, outputs=["answer"], **TINY)
    column = found[name]
    assert column.answer is not None
    assert column.answer.text == alone["answer"]
    rows = {row.id: row for row in alone.report}
    assert {stage.id for stage in column.stages} == rows.keys()
    assert {s.id: dict(s.tokens_out) for s in column.stages} == {
        k: dict(r.tokens_out) for k, r in rows.items()
    }
    assert {s.id: s.flops for s in column.stages} == {k: r.flops for k, r in rows.items()}


def test_agreement_is_that_of_a_sweep(found: Comparison) -> None:
    """KL is measured from the base's first token; the base agrees with itself."""
    data = [{"image": str(PICTURE), "question": TINY["question"]}]
    grid = {"checkpoint": "tiny-random", "max_new_tokens": 4}
    row = sweep("visionzip", grid, data, kl=True, cache=Cache(None))[0]
    assert found["visionzip"].kl == pytest.approx(row["kl"], abs=1e-6)
    assert (found["base/llava15"].kl, found["base/llava15"].top1) == (0.0, True)
    assert found["lookm"].kl == 0.0  # it compresses after the prompt was read


def test_tokens_are_told_from_the_tower_to_the_last_layer(found: Comparison) -> None:
    """9 + 2 of 144 patches and [CLS]; FastV keeps half of them from layer 2 on."""
    small, fastv, base = (found[name] for name in (NAMES[5], "fastv", "base/llava15"))
    assert (small.patches, small.placed, small.tokens) == (145, 11, 11)
    assert (base.patches, base.placed, base.tokens) == (144, 144, 144)
    assert (fastv.placed, fastv.tokens) == (144, 72)
    assert fastv.kept == pytest.approx(sum(fastv.layers) / sum(base.layers))
    assert small.kept == pytest.approx(11 / 144)


def test_each_is_charged_with_what_is_shared(found: Comparison) -> None:
    """The tower's seconds are in every column, marked; what is a graph's own is not."""
    towers = {s.seconds for name in ("visionzip", NAMES[5]) for s in found[name].stages if s.id == "patches"}
    assert len(towers) == 1
    for column in found:
        stages = {stage.id: stage for stage in column.stages}
        assert stages["patches"].shared == 7
        assert stages["answer"].shared == 1
        assert column.seconds == pytest.approx(sum(stage.seconds for stage in stages.values()))


def test_loading_is_nobodys(found: Comparison) -> None:
    """Weights are read before a stage is timed, and told apart."""
    assert found.loading > 0
    assert found.seconds > found.loading
    assert max(column.seconds or 0.0 for column in found) < found.seconds


def test_pictures_show_what_is_left(found: Comparison) -> None:
    """Every column has one."""
    assert {column.no_picture for column in found} == {""}
    small = found[NAMES[5]].picture
    assert small is not None
    assert small.caption == "11 tokens for 144 patches"


def test_a_failure_is_its_graphs_alone() -> None:
    """The others answer; the error says where it was, and costs nothing twice."""
    events = Seen()
    found = compare([broken("visionzip"), "fastv"], cache=False, subscribers=[events], image=PICTURE, **TINY)
    bad, good = found["visionzip"], found["fastv"]
    assert bad.error == "MediaError: cmp_broken: no luck; try another"
    assert bad.notes[0].startswith("in node visionzip/broken (cmp_broken), ")
    assert (bad.answer, bad.seconds, bad.flops, bad.kl) == (None, None, None, None)
    assert good.answer is not None
    assert good.kl is not None
    assert not found.ok
    assert Counter(events.done)["encode_vision"] == 1
    assert "failed: MediaError: cmp_broken: no luck; try another" in str(found)


def test_the_cache_spares_work_and_the_costs_stay(tmp_path: Path) -> None:
    """Again, nothing is executed; seconds and FLOPs are those of when it was, marked as cached."""
    first = compare(["fastv"], cache=Cache(tmp_path), image=PICTURE, **TINY)
    events = Seen()
    again = compare(["fastv"], cache=Cache(tmp_path), subscribers=[events], image=PICTURE, **TINY)
    assert "generate" not in events.done
    assert "encode_vision" not in events.done
    for a, b in zip(first, again, strict=True):
        stages = {stage.id: stage for stage in b.stages}
        assert stages["answer"].cached == "disk"
        assert (a.flops, a.answer and a.answer.ids) == (b.flops, b.answer and b.answer.ids)
        spent = {stage.id: stage.seconds for stage in a.stages}
        assert {id: s.seconds for id, s in stages.items() if s.cached} == {
            id: spent[id] for id, s in stages.items() if s.cached
        }


def test_values_of_other_runs_are_made_again(tmp_path: Path) -> None:
    """What `run` left in the cache was not measured as a comparison measures: it is run without the cache."""
    cache = Cache(tmp_path)
    run("fastv", cache=cache, image=PICTURE, **TINY)
    events = Seen()
    found = compare(["fastv"], cache=cache, subscribers=[events], image=PICTURE, **TINY)
    assert Counter(events.done)["generate"] >= 2
    assert all(stage.cached == "" for stage in found["fastv"].stages)
    assert found["fastv"].seconds is not None


def test_repeats_are_medians() -> None:
    """Three runs, one comparison; everything is executed three times."""
    events = Seen()
    found = compare(["fastv"], base=False, repeat=3, subscribers=[events], image=PICTURE, **TINY)
    assert found.repeats == 3
    assert Counter(events.done)["generate"] == 3
    assert found["fastv"].base == ""


def test_a_base_that_is_named_is_one_column() -> None:
    """The base of VisionZip does what it would be compared with: it is that."""
    found = compare(["visionzip", "base/llava15"], cache=False, image=PICTURE, **TINY)
    assert [(column.name, column.is_base) for column in found] == [
        ("base/llava15", True),
        ("visionzip", False),
    ]


def test_bases_of_other_values_are_told_apart() -> None:
    """Two words and three take other FLOPs: each is compared with a base of its own."""
    graphs = ["visionzip:max_new_tokens=2,3"]
    given = {name: value for name, value in TINY.items() if name != "max_new_tokens"}
    found = compare(graphs, cache=False, image=PICTURE, **given)
    assert [(column.name, column.base) for column in found] == [
        ("base/llava15 max_new_tokens=2", "base/llava15 max_new_tokens=2"),
        ("base/llava15 max_new_tokens=3", "base/llava15 max_new_tokens=3"),
        ("visionzip max_new_tokens=2", "base/llava15 max_new_tokens=2"),
        ("visionzip max_new_tokens=3", "base/llava15 max_new_tokens=3"),
    ]
