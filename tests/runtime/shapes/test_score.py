"""Scores: rules of what is right, intervals, baselines, and answers that do not fit the questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenloom.runtime.errors import ShapesError
from tokenloom.runtime.shapes.items import Settings, items
from tokenloom.runtime.shapes.questions import OPTIONS
from tokenloom.runtime.shapes.score import (
    Baseline,
    compare,
    majority_baseline,
    read_answers,
    read_questions,
    score,
)
from tokenloom.runtime.shapes.words import ALTERNATIVES, chosen


def motion(*answers: str) -> list[dict[str, Any]]:
    """A question about a clip of its own for every answer."""
    return [
        {"id": f"q{n}", "video": f"{n}.mp4", "kind": "motion", "answer": answer}
        for n, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("kind", "said", "exact", "option"),
    [
        ("colour", " Red.\n", "red", "red"),
        ("count", "three", "3", "3"),
        ("where", "Top-Left", "top left", "top left"),
        ("where", "upper left", "top left", "top left"),
        ("shape", "It is a ring.", None, "ring"),
        ("where", "The star, bottom right, is small.", None, "bottom right"),
        ("motion", "It does not move.", None, "nowhere"),
        ("motion", "left or right", None, None),
        ("colour", "reddish", None, None),
        ("exist", "", None, None),
    ],
)
def test_what_an_answer_means(kind: str, said: str, exact: str | None, option: str | None) -> None:
    """Case and marks do not count; sentences only by the rule `option`, if they name just one."""
    assert (chosen(kind, said), chosen(kind, said, "option")) == (exact, option)


def test_every_option_and_alternative_means_itself() -> None:
    """No other word is an option itself, and each stands for one."""
    for kind, options in OPTIONS.items():
        assert [chosen(kind, option) for option in options] == list(options)
        assert not set(ALTERNATIVES[kind]) & set(options)
        for word, option in ALTERNATIVES[kind].items():
            assert chosen(kind, word) == option


def test_moving_counts_what_moves_only() -> None:
    """Always saying `nowhere` is right for what stays, and never right for what moves."""
    truth = motion("nowhere", "nowhere", "left", "up")
    report = score(truth, {row["id"]: "nowhere" for row in truth})
    assert report.kinds["motion"].accuracy == 0.5
    assert report.moving is not None
    assert (report.moving.right, report.moving.asked, report.moving.majority) == (0, 2, 0.5)
    assert list(report.shares) == ["motion", "moving", "overall"]


def test_the_baseline_is_the_commonest_answer_of_each_kind() -> None:
    """Per kind the most frequent answer, the first option among equals; overall the mean over questions."""
    rows = [*motion("up", "up", "down"), {"id": "e", "kind": "exist", "answer": "no"}]
    rows += [{"id": "f", "kind": "exist", "answer": "yes"}]
    assert majority_baseline(rows) == {
        "exist": Baseline("yes", 1 / 2),
        "motion": Baseline("up", 2 / 3),
        "moving": Baseline("up", 2 / 3),
        "overall": Baseline("", 3 / 5),
    }


def test_the_interval_holds_the_truth_and_narrows() -> None:
    """Half right of 100 gives about 40 to 60 %, of 400 about 45 to 55 %; the same each time."""
    widths = []
    for number in (100, 400):
        truth = motion(*["up", "down"] * (number // 2))
        answers = {row["id"]: "up" for row in truth}
        share = score(truth, answers).overall
        assert score(truth, answers).overall == share
        assert share.low < 0.5 < share.high
        widths.append(share.high - share.low)
    assert widths == pytest.approx([4 * 0.05, 4 * 0.025], rel=0.12)


def test_questions_about_one_picture_are_drawn_together() -> None:
    """Ten questions each about 20 pictures are worth as much as 20, if they are right or wrong together."""
    truth = [
        {"id": f"{n}-{k}", "image": f"{n}.png", "kind": "exist", "answer": "yes"}
        for n in range(20)
        for k in range(10)
    ]
    together = score(truth, {r["id"]: "yes" if int(r["image"][:-4]) % 2 else "no" for r in truth}).overall
    apart = score(truth, {r["id"]: "yes" if int(r["id"][-1]) % 2 else "no" for r in truth}).overall
    assert together.high - together.low > 0.35
    assert apart.high - apart.low == 0


def test_compared_in_pairs() -> None:
    """A gap between two sets of answers is zero for the same ones, and its interval knows they are paired."""
    truth = motion(*["up", "down"] * 100)
    half = {row["id"]: "up" for row in truth}
    more = {**half, **{f"q{n}": "down" for n in range(1, 60, 2)}}
    assert compare(truth, half, half)["overall"].high == 0
    gap = compare(truth, more, half)["overall"]
    assert gap.gap == pytest.approx(0.15)
    assert 0.09 < gap.low < gap.gap < gap.high < 0.21


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({"q0": "up"}, "answers: 1 of 2 questions have none, such as 'q1'; answer them, or say partial to "
         "score only the others"),
        ({"q0": "up", "q1": "up", "q2": "up"}, "answers: 'q2': no such question; known: q0, q1"),
    ],
)  # fmt: skip
def test_answers_that_do_not_fit(answers: dict[str, str], text: str) -> None:
    """Neither an open question nor an answer to none is passed over."""
    with pytest.raises(ShapesError) as caught:
        score(motion("up", "down"), answers)
    assert str(caught.value) == text


def test_partial_answers() -> None:
    """Open questions are left out when asked to."""
    assert score(motion("up", "down"), {"q0": "up"}, partial=True).overall.asked == 1
    with pytest.raises(ShapesError) as caught:
        score(motion("up"), {}, partial=True)
    assert str(caught.value) == "answers: there is none to score"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"id": "q0"}', '{file}:1: wanted {{"id": "...", "answer": "..."}}, got {{\'id\': \'q0\'}}'),
        ('{"id": "q0", "answer": "a"}\n{"item": "q0", "answer": "a"}', "{file}:2: a second answer to q0"),
    ],
)
def test_bad_files_of_answers(tmp_path: Path, line: str, text: str) -> None:
    """The line is named."""
    file = tmp_path / "answers.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(ShapesError) as caught:
        read_answers(file)
    assert str(caught.value) == text.format(file=file)


def test_a_bad_file_of_questions(tmp_path: Path) -> None:
    """A line without what a question needs is named."""
    file = tmp_path / "questions.jsonl"
    file.write_text('{"id": "q0", "answer": "a"}\n')
    with pytest.raises(ShapesError) as caught:
        read_questions(tmp_path)
    assert str(caught.value) == f"{file}:1: the question has no kind"


def test_right_answers_are_all_right() -> None:
    """The benchmark's own answers score 100 %."""
    truth = [row for item in items(Settings(number=20, frames=8)) for row in item.rows()]
    shares = score(truth, {row["id"]: row["answer"].upper() for row in truth}).shares
    assert {share.accuracy for share in shares.values()} == {1.0}


def test_a_folder_of_map_is_read_part_by_part(tmp_path: Path) -> None:
    """The rows of `tokenloom map` lie in parts; the folder stands for all of them."""
    (tmp_path / "part-00000.jsonl").write_text('{"id": "a", "answer": "red"}\n')
    (tmp_path / "part-00001.jsonl").write_text('{"id": "b", "answer": "blue"}\n')
    assert read_answers(tmp_path) == {"a": "red", "b": "blue"}


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    """A folder that map did not write is named."""
    with pytest.raises(ShapesError) as caught:
        read_answers(tmp_path)
    assert str(caught.value) == f"{tmp_path}: the folder holds no rows of tokenloom map (part-*.jsonl)"
