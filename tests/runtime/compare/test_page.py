"""The page of a comparison."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tokenloom import compare
from tokenloom.runtime.compare.chart import chart
from tokenloom.runtime.compare.comparison import Comparison
from tokenloom.runtime.compare.html import stage_order
from tokenloom.runtime.report.reading import read_recipe

from .faulty import PICTURE, TINY, broken


@pytest.fixture(scope="module")
def found() -> Comparison:
    """One graph that answers, one that fails, their base."""
    graphs = ["visionzip:keep=5:targets=2", broken("visionzip")]
    return compare(graphs, cache=False, image=PICTURE, **TINY)


@pytest.fixture(scope="module")
def page(found: Comparison) -> str:
    return found.html()


def test_it_needs_nothing_but_itself(page: str) -> None:
    """No address, no script."""
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<script" not in page


def test_it_shows_what_was_found(found: Comparison, page: str) -> None:
    """Question, answers, figures, marks."""
    column = found["visionzip keep=5 targets=2"]
    assert column.answer is not None
    for told in (str(TINY["question"]), column.answer.text, "random weights", f"{column.kl:.3g}", "7"):
        assert told in page
    assert "side channels: cls_attention" in page
    assert "145 \N{RIGHTWARDS ARROW} 7" in page


def test_it_shows_failures(page: str) -> None:
    """The error where the answer would be, and with its place below."""
    assert "failed: MediaError: cmp_broken: no luck; try another" in page
    assert "in node visionzip/broken (cmp_broken)" in page


def test_text_cannot_become_structure(found: Comparison) -> None:
    """What a model says is escaped."""
    first = found.columns[0]
    assert first.answer is not None
    evil = replace(first, answer=replace(first.answer, text="<script>alert(1)</script>"))
    text = replace(found, columns=[evil, *found.columns[1:]], question="</title><b>").html()
    assert "<script" not in text
    assert "</title><b>" not in text


def test_pictures_carry_their_recipes(page: str, tmp_path: Path) -> None:
    """A picture that is saved from the page says what made it."""
    data = [base64.b64decode(d) for d in re.findall(r"data:image/png;base64,([^\"]+)", page)]
    (tmp_path / "kept.png").write_bytes(data[-1])
    recipe = read_recipe(tmp_path / "kept.png")
    assert (recipe.output, recipe.params["keep"], recipe.params["targets"]) == ("compare_kept", 5, 2)


def test_recipes_are_on_the_page(page: str) -> None:
    """The graph of each as YAML, and all else that decided it."""
    assert page.count("&quot;checksum&quot;") == 3
    assert "select_dominant" in page


def test_records_are_json(found: Comparison) -> None:
    """Everything that the page shows, for programs."""
    told = json.loads(json.dumps(found.record(), allow_nan=False))
    assert not told["ok"]
    names = ["base/llava15", "visionzip keep=5 targets=2", "visionzip"]
    assert [column["name"] for column in told["columns"]] == names
    good, bad = told["columns"][1:]
    assert good["tokens_per_layer"] == [7] * len(good["tokens_per_layer"])
    assert bad["error"] == "MediaError: cmp_broken: no luck; try another"
    assert {"node", "seconds", "flops", "shared", "cached"} <= good["stages"][0].keys()


def test_stages_are_aligned() -> None:
    """New stages stand after what they follow."""
    assert stage_order([["a", "b", "d"], ["a", "c", "d"], ["b", "e"]]) == ["a", "c", "b", "e", "d"]


def test_tokens_per_layer_are_drawn(found: Comparison, page: str) -> None:
    """One line per graph that answered, named with what is left; the drawing is valid XML."""
    from xml.etree.ElementTree import fromstring

    drawn = fromstring(chart(found.columns))
    assert len(drawn.findall("{*}polyline")) == 2
    assert [text.text for text in drawn.findall("{*}text")][-2:] == [
        "144  base/llava15",
        "7  visionzip keep=5 targets=2",
    ]
    assert chart([column for column in found if column.error]) == ""
    assert "data:image/svg+xml" in page
