"""What is measured of real graphs: tokens, FLOPs, KL to the uncompressed model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tokenloom import Graph, load, nodes, run, sweep
from tokenloom.runtime import cost
from tokenloom.runtime.agreement import divergence
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import SweepError
from tokenloom.runtime.models.handle import LanguageFacts
from tokenloom.runtime.models.pool import pool
from tokenloom.runtime.sweep.gauge import Gauge
from tokenloom.runtime.values import Logits

from .toy import Counts, toy

PICTURE = Path(__file__).parents[3] / "examples" / "media" / "shapes.png"
DATA: list[dict[str, Any]] = [{"image": str(PICTURE), "question": "What is it?"}]
SHORT = {"max_new_tokens": 2}


@pytest.fixture(scope="module")
def cache() -> Cache:
    """One encode for all tests."""
    return Cache(None)


def first_scores(graph: Graph, **params: Any) -> Logits:
    """The scores of the first token of a bundled graph's answer."""
    graph = graph.copy()
    graph.add(nodes.read_logits, (graph["model.llm"], graph["state"]), id="scores")
    return cast("Logits", run(graph, outputs=["scores"], cache=False, **params)["scores"])


def test_tokens_before_the_language_model(cache: Cache) -> None:
    """4 + 2 tokens reach every layer; the prompt's FLOPs are the formula's."""
    row = sweep("visionzip", {"keep": 4, "targets": 2, **SHORT}, DATA, cache=cache)[0]
    assert (row["tokens"], row["tokens_placed"], row["tokens_mean"]) == (6, 6, 6.0)
    result = run("visionzip", outputs=["model.llm", "placed"], keep=4, targets=2, cache=cache, **DATA[0])
    facts = cast("LanguageFacts", result["model.llm"].facts.language)
    assert row["flops_prompt"] == cost.prefill(facts, [len(result["placed"])] * facts.depth)
    assert row["answer"]
    assert row["correct"] is None


def test_flops_are_those_of_all_stages(cache: Cache) -> None:
    """As the report of a run without any cache counts them."""
    row = sweep("visionzip", {"keep": 4, **SHORT}, DATA, cache=cache)[0]
    report = run("visionzip", outputs=["answer"], keep=4, cache=False, **SHORT, **DATA[0]).report
    assert row["flops"] == sum(line.flops or 0 for line in report)
    assert row["stages"].keys() == {line.id for line in report}
    kept = row["stages"]["dominant"]["tokens"]
    assert kept["kept"] == 4
    assert kept["rest"] > 4


def test_tokens_inside_the_language_model(cache: Cache) -> None:
    """FastV: all tokens in the first layer, half of them in the others."""
    row = sweep("fastv", {"k": 1, "r": 0.5, **SHORT}, DATA, cache=cache)[0]
    facts = run("fastv", outputs=["model.llm"], cache=cache, **DATA[0])["model.llm"].facts.language
    placed, kept = row["tokens_placed"], row["tokens"]
    assert kept == round(placed / 2)
    assert row["tokens_mean"] == pytest.approx((placed + (facts.depth - 1) * kept) / facts.depth)
    full = sweep("llava15", SHORT, DATA, cache=cache)[0]
    assert full["tokens"] == full["tokens_mean"] == placed
    assert row["flops_prompt"] < full["flops_prompt"]


def test_kl_is_that_of_the_first_token() -> None:
    """Against the graph that it extends, with the same picture and question."""
    counts, cache = Counts(), Cache(None)
    rows = sweep("visionzip", {"keep": [2, 8], **SHORT}, DATA, kl=True, cache=cache, subscribers=[counts])
    base = first_scores(load("base/llava15"), **DATA[0])
    for row, keep in zip(rows, (2, 8), strict=True):
        other = first_scores(load("visionzip"), keep=keep, **DATA[0])
        assert row["kl"] == pytest.approx(divergence(base.values[-1], other.values[-1]), rel=1e-6)
        assert not {"sweep_state", "sweep_logits"} & row["stages"].keys()
    assert counts.done["sweep_logits"] == 3  # the base's once
    assert rows[0]["base_hash"]


def test_the_uncompressed_graph_is_no_distance_away(cache: Cache) -> None:
    """KL 0, exactly; and with a base that is named."""
    assert sweep("llava15", SHORT, DATA, kl=True, cache=cache)[0]["kl"] == 0
    row = sweep("visionzip", {"keep": 8, **SHORT}, DATA, kl=True, base="visionzip", cache=cache)[0]
    assert row["kl"] == pytest.approx(0, abs=1e-12)


def test_a_base_of_other_inputs_is_refused() -> None:
    """A clip's graph that extends a picture's: which base it was, and what to do."""
    clip = PICTURE.with_name("shapes.mp4")
    with pytest.raises(SweepError) as error:
        sweep("visionzip_video", {"count": 2}, [{"video": str(clip)}], kl=True)
    assert str(error.value) == (
        "--kl: visionzip_video: is asked about video, its base base/llava15 about image; name another with "
        "--base GRAPH"
    )


def test_models_are_loaded_one_after_another(cache: Cache) -> None:
    """The checkpoint is the outermost loop, and the models of the one before are let go."""
    names = ["tiny-random", "tiny-random-next"]
    loaded: list[set[str]] = []
    pool().release()

    def look(row: dict[str, Any]) -> None:
        loaded.append({resident.handle.facts.name for resident in pool().resident()})

    data = [*DATA, {**DATA[0], "question": "Which colour?"}]
    grid = {"checkpoint": names, **SHORT}
    rows = sweep("visionzip", grid, data, cache=Cache(None), on_row=look)
    assert [row["params"]["checkpoint"] for row in rows] == [names[0]] * 2 + [names[1]] * 2
    assert loaded[0] == loaded[1] != loaded[2] == loaded[3]
    assert loaded[0].isdisjoint(loaded[2])


def test_rows_without_kl_are_made_again_when_it_is_asked_for(tmp_path: Path, cache: Cache) -> None:
    """And only then."""
    out = tmp_path / "rows.jsonl"
    assert sweep("llava15", SHORT, DATA, output=out, cache=cache)[0]["kl"] is None
    assert sweep("llava15", SHORT, DATA, output=out, kl=True, cache=cache)[0]["kl"] == 0
    assert sweep("llava15", SHORT, DATA, output=out, cache=cache)[0]["kl"] == 0


def test_a_graph_without_a_model_is_measured_as_far_as_it_goes() -> None:
    """An answer that is a text."""
    gauge = Gauge.of(toy(), logits=True)
    assert dict(gauge.outputs) == {"answer": "answer"}
    reading = gauge.take(run(gauge.graph, start=1, cache=False))
    assert (reading.answer, reading.tokens, reading.prefill, reading.logits) == ("13", None, None, None)
