"""What is compared, as it is written, and what is refused before any work."""

from __future__ import annotations

from typing import Any

import pytest

from tokenloom import compare, load
from tokenloom.runtime.compare.spec import read_entrants, split_words
from tokenloom.runtime.errors import CompareError
from tokenloom.runtime.sweep.problems import Problems

from .faulty import PICTURE, TINY

CLIP = PICTURE.with_suffix(".mp4")


def refused(*graphs: Any, **inputs: Any) -> str:
    """What a comparison says before any work."""
    with pytest.raises(CompareError) as caught:
        compare(graphs, cache=False, **inputs)
    return str(caught.value)


def names(*graphs: Any, **inputs: Any) -> list[str]:
    """The columns that are meant."""
    problems = Problems(CompareError)
    found = read_entrants(graphs, inputs, problems)
    problems.stop()
    return [entrant.name for entrant in found]


def test_words_are_graphs_or_inputs() -> None:
    """`name=value` is an input whatever the value holds; everything else is a graph."""
    words = ["visionzip:keep=16", "question=is it a:b=c?", "./mine.yaml", "image=a.png", "image=b.png"]
    graphs, inputs, twice = split_words(words)
    assert graphs == ["visionzip:keep=16", "./mine.yaml"]
    assert inputs == {"question": "is it a:b=c?", "image": "b.png"}
    assert twice == ["image"]


def test_several_values_are_several_columns() -> None:
    """As in a sweep: every combination; parameters are set apart by colons."""
    assert names("visionzip:keep=16,8:targets=2,4") == [
        "visionzip keep=16 targets=2",
        "visionzip keep=16 targets=4",
        "visionzip keep=8 targets=2",
        "visionzip keep=8 targets=4",
    ]


def test_values_from_python() -> None:
    """A graph with a mapping; and a Graph as it is."""
    assert names(("visionzip", {"keep": 3}), load("fastv")) == ["visionzip keep=3", "fastv"]


def test_text_is_one_value() -> None:
    """Commas in a text do not part it."""
    assert names("visionzip:question=red, or blue?") == ["visionzip question=red, or blue?"]


def test_inputs_go_to_those_that_have_them() -> None:
    """`keep` is VisionZip's; FastV has none. A graph's own value goes before the one for all."""
    found = read_entrants(["visionzip", "fastv", "visionzip:keep=5"], {"keep": 9}, Problems(CompareError))
    assert [entrant.value("keep") for entrant in found] == [9, None, 5]


@pytest.mark.parametrize(
    ("graphs", "inputs", "message"),
    [
        (
            ["visionzip:kep=4", "fastv:k=zero"],
            {},
            "visionzip: no parameter is called 'kep'; did you mean 'keep'?\n"
            "fastv.k: 'zero' is a str, wanted int 1..",
        ),
        (["visionzip"], {"kepe": 3}, "params: no graph has a parameter called 'kepe'; did you mean 'keep'?"),
        (
            ["visionzip:keep=4", "visionzip:keep=4"],
            {},
            "visionzip keep=4: is there twice; give one of them other values, such as visionzip:keep=...",
        ),
        (["visionsip"], {}, "visionsip: no such graph file, and no built-in graph is called that"),
    ],
)
def test_mistakes_in_words(graphs: list[str], inputs: dict[str, Any], message: str) -> None:
    """All are said at once."""
    assert refused(*graphs, image=PICTURE, **inputs).startswith(message)


def test_a_picture_is_not_a_clip() -> None:
    """Which graph wants what, and what to do."""
    assert refused("visionzip:image=a.png", "fastv:image=b.png", "prunevid:video=c.mp4") == (
        "the graphs are asked about different things, and a comparison is about one picture or clip:\n"
        "  visionzip image=a.png: image=a.png\n"
        "  fastv image=b.png: image=b.png\n"
        "  prunevid video=c.mp4: video=c.mp4\n"
        "compare those of one line at a time, or give all the same"
    )


def test_one_question() -> None:
    """Two are refused."""
    text = refused("visionzip:question=Why?", "fastv", image=PICTURE, question="What?")
    assert text == (
        "the graphs are asked different questions:\n"
        "  visionzip question=Why?: 'Why?'\n"
        "  fastv: 'What?'\n"
        "give all the same: question=..."
    )


def test_one_model() -> None:
    """Other checkpoints have other tokens and other costs."""
    text = refused(
        "visionzip:checkpoint=tiny-random", "visionzip_next:checkpoint=tiny-random-next", image=PICTURE,
        question="What?",
    )  # fmt: skip
    assert text == (
        "the graphs read different models:\n"
        "  base/llava15, visionzip checkpoint=tiny-random: checkpoint=tiny-random\n"
        "  base/llava_next, visionzip_next checkpoint=tiny-random-next: checkpoint=tiny-random-next\n"
        "compare those of one line at a time, or give all a checkpoint that each can read: checkpoint=..."
    )


def test_what_cannot_be_planned() -> None:
    """A budget beyond what there is, with the graph that has it."""
    text = refused("visionzip:keep=999", "fastv", image=PICTURE, **TINY)
    assert text.startswith("visionzip keep=999: ")
    assert "fastv" not in text


def test_a_graph_without_an_ancestor() -> None:
    """Nothing says what it would be uncompressed; two ways out."""
    graph = load("visionzip")
    graph.at = None
    assert refused(graph, image=PICTURE, **TINY) == (
        "base: VisionZip on LLaVA-1.5 extends no other graph, so nothing says what it would be uncompressed; "
        "name that graph with --base GRAPH, or leave it out with --no-base"
    )


def test_a_base_of_other_inputs() -> None:
    """A clip is not compared with what a picture, the base's own by default, is answered with."""
    assert refused("visionzip_video", video=CLIP, **TINY) == (
        "visionzip_video: is asked about video, its base base/llava15 about image; name another with --base "
        "GRAPH, or leave it out with --no-base"
    )


def test_a_graph_that_answers_nothing() -> None:
    """There is nothing to compare."""
    graph = load("visionzip")
    graph.outputs.pop("answer")
    graph.remove("answer")
    text = refused(graph, image=PICTURE, checkpoint="tiny-random")
    assert text == (
        "visionzip: has no `generate` that a prompt or a state is wired to, so there is no answer to compare"
    )


def test_repeat_counts_from_one() -> None:
    """0 runs measure nothing."""
    assert refused("visionzip", image=PICTURE, repeat=0) == "repeat: 0, wanted 1 or more"


def test_nothing_is_named() -> None:
    """Without a picture or clip there is nothing to choose by."""
    assert refused() == (
        "nothing to compare: name graphs, or give image=FILE or video=FILE for those that fit"
    )


def test_what_fits_is_chosen() -> None:
    """The methods of LLaVA-1.5 for a picture with its checkpoint; neither mixes nor uncompressed graphs."""
    from tokenloom.runtime.compare.fitting import fitting

    problems = Problems(CompareError)
    chosen, _ = fitting({"image": PICTURE, **TINY}, "cpu", "auto", problems)
    assert {"fastv", "lookm", "prumerge", "visionzip"} <= set(chosen)
    assert not {"llava15", "prunevid", "tokenpacker", "visionzip_next", "mixes/visionzip_fastv"} & set(chosen)
