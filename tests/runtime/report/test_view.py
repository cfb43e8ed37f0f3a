"""Reports: everything is on the page, escaped, in one file; also of a run that failed."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.runtime.report.test_page import NASTY, Reading
from tests.runtime.report.toys import call, forget_plugins, mine
from tokenloom.runtime.report.view import view


def page_of(*args: str) -> str:
    mine("run", *args, "--result", "r.json", "-q")
    return view(Path("r.json"))


def words_of(document: str) -> str:
    return "\n".join(Reading(document).words)


def test_a_report_has_everything(folder: Path) -> None:
    """Answer, picture, tables, stages, parameters, files, versions, the graph drawn and written."""
    made = page_of("words.yaml", "words=hi.txt")
    words = words_of(made)
    for text in (
        "Words & <pictures>",
        "done",
        "hihi",
        "letters & counts",
        "toy_repeat",
        "total",
        str(folder / "hi.txt"),
        "torch",
        str(folder / "mine.py"),
        "tokenloom run words.yaml words=hi.txt --plugin mine.py",
        "tokenloom rerun r.json",
    ):
        assert text in words
    assert "  many: {node: toy_repeat, text: $read, times: $times, ends: $ends}" in words
    assert made.count('src="data:image/png;base64,') == 1
    assert made.count('src="data:image/svg+xml;base64,') == 1


def test_a_report_of_a_failed_run_shows_the_error(folder: Path) -> None:
    """Where, what, and what to do; the stages that were done; the failed one marked; the rest named."""
    words = words_of(page_of("failing.yaml", "words=hi.txt"))
    for text in (
        "What went wrong in node broken (toy_fail)",
        "MediaError: no luck; try another",
        "in node broken (toy_fail), failing.yaml:6:3",
        "to go on from here: tokenloom run failing.yaml",
        "not run: after",
    ):
        assert text in words
    assert words.split("\n").count("failed") == 2  # under the title, and in the row


def test_a_report_of_a_run_that_was_never_planned_opens(folder: Path) -> None:
    """Its graph could not even be read."""
    Path("wrong.yaml").write_text("tokenloom: 1\nnodes: {a: {node: toy_raed}}\n")
    words = words_of(page_of("wrong.yaml"))
    assert "a: no node is called 'toy_raed'; did you mean 'toy_read'?" in words
    assert "tokenloom run wrong.yaml --plugin mine.py" in words


def test_nothing_that_was_written_can_become_markup(folder: Path) -> None:
    """Answers, paths, parameters, errors, titles, captions, column names."""
    nasty = NASTY.split("\x00")[0].replace("/", "")
    Path(f"{nasty}.txt").write_text(NASTY.replace("\ud800", ""))
    seen = Reading(page_of("words.yaml", f"words={nasty}.txt"))
    assert "script" not in seen.tags
    assert "".join(seen.words).count("<script>alert(1)<") > 4
    seen = Reading(page_of("failing.yaml", "words=hi.txt", f"why={nasty}"))
    assert "script" not in seen.tags


@pytest.mark.parametrize(
    "part", ["title", "graph", "device", "dtype", "drawing", "command", "outputs", "notes"]
)
def test_a_result_file_by_somebody_else_runs_nothing(folder: Path, part: str) -> None:
    """Its texts are texts, and a drawing with a script in it is a picture."""
    mine("run", "words.yaml", "words=hi.txt", "--result", "r.json", "-q")
    facts = json.loads(Path("r.json").read_text())
    facts[part] = {"answer": NASTY} if part == "outputs" else [NASTY] if part == "notes" else NASTY
    facts["kinds"] = {"answer": "str"}
    Path("r.json").write_text(json.dumps(facts))
    seen = Reading(view(Path("r.json")))
    assert "script" not in seen.tags
    assert {value for name, value in seen.attributes if name.startswith("on")} == set()


def test_a_picture_is_viewed_with_its_recipe(folder: Path) -> None:
    """Also where its nodes are not known, and so the graph cannot be drawn."""
    mine("run", "words.yaml", "words=hi.txt", "--result", "r.json", "-q")
    png = json.loads(Path("r.json").read_text())["pictures"]["seen"]["png"]
    Path("seen.png").write_bytes(base64.b64decode(png))
    words = words_of(view(Path("seen.png")))
    assert "Words & <pictures>" in words
    assert "tokenloom rerun seen.png" in words
    forget_plugins()
    words = words_of(view(Path("seen.png")))
    assert "cannot be drawn here: seen.png: it was made with the nodes toy_read, toy_repeat, " in words
    assert f"--plugin {folder / 'mine.py'}" in words


def test_view_writes_beside_the_result(folder: Path) -> None:
    """And prints where; elsewhere with -o."""
    mine("run", "words.yaml", "words=hi.txt", "--result", "r.json", "-q")
    assert call("view", "r.json").stdout == "r.html\n"
    assert call("view", "r.json", "-o", "other.htm").stdout == "other.htm\n"
    assert Path("r.html").read_text() == Path("other.htm").read_text()
    assert Reading(Path("r.html").read_text()).tags[:2] == ["html", "head"]


def test_bad_views_are_one_clear_error(folder: Path) -> None:
    """Exit code 2, nothing written."""
    for args, message in {
        ("no.json",): "no.json: cannot be read: No such file or directory",
        ("r.json", "-o", "x.pdf"): "-o x.pdf: wants a file name that ends in .html",
        ("hi.txt",): (
            "hi.txt: neither a PNG nor a result file (JSON), or cut off; wanted a PNG that tokenloom wrote, "
            "or what `tokenloom run ... --result FILE.json` writes"
        ),
    }.items():
        done = call("view", *args)
        assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    assert not list(folder.glob("*.html"))


def test_a_page_that_cannot_be_written_is_told(folder: Path) -> None:
    """With where else."""
    mine("run", "words.yaml", "words=hi.txt", "--result", "r.json", "-q")
    done = call("view", "r.json", "-o", "no/x.html")
    assert done.stderr == (
        "error: no/x.html: cannot be written: No such file or directory; say where: -o FILE.html\n"
    )


def test_a_picture_that_is_none_leaves_a_gap(folder: Path) -> None:
    """The browser shows its name instead."""
    mine("run", "words.yaml", "words=hi.txt", "--result", "r.json", "-q")
    facts = json.loads(Path("r.json").read_text())
    facts["pictures"]["seen"]["png"] = "not base64!"
    Path("r.json").write_text(json.dumps(facts))
    assert 'src="data:image/png;base64,"' in view(Path("r.json"))
