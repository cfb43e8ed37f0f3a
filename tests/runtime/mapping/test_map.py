"""Maps: rows, failures, retries, what is refused before any work, resuming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tokenloom
from tokenloom import Graph
from tokenloom.runtime.errors import Cancelled, GraphError, LoomError, MapError
from tokenloom.runtime.mapping import folder as folder_module
from tokenloom.runtime.rows import read_rows

from .nodes import CALLS, items, map_large, map_picture, map_read, map_say, map_size, toy


@pytest.fixture(autouse=True)
def _calls() -> None:
    CALLS.clear()


def answers(path: Path) -> list[Any]:
    return [row.get("answer", row.get("error", {}).get("type")) for row in rows(path)]


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for part in folder_module.parts(path) for row in read_rows(part)]


def lines(path: Path, *objects: Any) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in objects))
    return path


def refused(data: Any, graph: Graph | None = None, **options: Any) -> str:
    with pytest.raises(MapError) as error:
        tokenloom.map(graph or toy(), data, **options)
    return str(error.value)


def without_time(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


# -- results -----------------------------------------------------------------------------------------------


def test_results_come_one_by_one_as_values() -> None:
    """Without a folder nothing is run before it is asked for, and nothing is written."""
    found = tokenloom.map(toy(), items("a", "b"), times=3)
    assert not CALLS
    first = next(found)
    assert (first.index, first.id, first.failure) == (0, "1", None)
    assert dict(first.outputs) == {"answer": "a", "said": "aaa"}
    assert "b" not in CALLS
    assert [one.outputs["answer"] for one in found] == ["b"]


def test_a_graph_maps_too(tmp_path: Path) -> None:
    """`graph.map` is the same call."""
    assert [one.outputs["answer"] for one in toy().map(items("a", "b"))] == ["a", "b"]
    assert toy().map(items("a"), output=tmp_path / "out").ok == 1


def test_a_row_for_every_item_in_order(tmp_path: Path) -> None:
    """Ids, inputs and what is expected go with the answer; the summary counts."""
    data = lines(
        tmp_path / "items.jsonl",
        {"text": "a", "id": "one", "answer": ["a", "A"], "kind": "letter"},
        "",
        {"text": "b", "times": 1},
    )
    done = tokenloom.map(toy(), data, output=tmp_path / "out")
    assert (done.total, done.ok, done.failed, done.fresh) == (2, 2, 0, 2)
    assert done.rate > 0
    first, second = done.rows()
    assert (first["index"], first["id"], first["answer"]) == (0, "one", "a")
    assert first["outputs"] == {"answer": "a", "said": "aa"}
    assert (first["inputs"], first["expected"], first["kind"]) == ({"text": "a"}, ["a", "A"], "letter")
    assert (second["id"], second["outputs"]["said"], second["where"]) == ("2", "b", f"{data}:3")


def test_the_same_rows_every_time(tmp_path: Path) -> None:
    """But for the seconds."""
    for name in ("a", "b"):
        tokenloom.map(toy(), items("x", "raise", "y"), output=tmp_path / name)
    assert without_time(rows(tmp_path / "a")) == without_time(rows(tmp_path / "b"))


def test_rows_go_to_parts_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows and by bytes; in order they are all rows, and a later run goes on in the last part."""
    monkeypatch.setattr(folder_module, "ROWS", 3)
    data = items(*"abcdefgh")
    tokenloom.map(toy(), data, output=tmp_path / "out", limit=5)
    tokenloom.map(toy(), data, output=tmp_path / "out")
    assert [len(read_rows(part)) for part in folder_module.parts(tmp_path / "out")] == [3, 3, 2]
    assert answers(tmp_path / "out") == list("abcdefgh")
    monkeypatch.setattr(folder_module, "BYTES", 1)
    tokenloom.map(toy(), data, output=tmp_path / "bytes")
    assert [part.name for part in folder_module.parts(tmp_path / "bytes")][-1] == "part-00007.jsonl"


def test_pictures_and_tensors_are_saved_beside(tmp_path: Path) -> None:
    """PNG and safetensors, named in the row; what the row says already gets no file."""
    graph = toy()
    with graph:
        said = graph["said"]
        graph.output(picture=map_picture(said), large=map_large(said, megabytes=1))
    done = tokenloom.map(graph, items("ab"), output=tmp_path, save=["picture", "large", "answer"])
    (row,) = done.rows()
    assert row["files"] == {
        "picture": "files/00000/00000000.picture.png",
        "large": "files/00000/00000000.large.safetensors",
    }
    with Image.open(tmp_path / row["files"]["picture"]) as picture:
        assert picture.size == (2, 4)
        assert "tokenloom" in picture.text  # type: ignore[attr-defined]
    (tensor,) = load_file(tmp_path / row["files"]["large"]).values()
    assert tensor.shape == (1 << 20,)


def test_values_that_only_python_has_can_be_items(tmp_path: Path) -> None:
    """They are checked, told in a few words, and decide whether an item is the same."""
    with Graph("sizes") as g:
        g.output(answer=map_size(g.param("value", torch.Tensor), map_say(text=g.param("text", str))))
    data = [{"value": torch.zeros(3), "text": "a"}, {"value": "no", "text": "b"}]
    done = tokenloom.map(g, data, output=tmp_path)
    assert answers(tmp_path) == ["a 3", "MapError"]
    good, bad = done.rows()
    assert good["inputs"] == {"text": "a", "value": "Tensor[3, float32, cpu]"}
    assert bad["error"]["message"] == "items[1].value: wanted Tensor, got str"
    data[0] = {"value": torch.ones(3), "text": "a"}
    assert "items[0]: is not the item '1' that row 0 of" in refused(data, g, output=tmp_path)


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    """As in a sweep; and what does not exist is known before."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("hello")
    data = lines(tmp_path / "deep" / "items.jsonl", {"path": "a.txt"}, {"path": "b.txt"})
    with Graph("files") as g:
        g.output(answer=map_read(path=g.param("path", Path)))
    tokenloom.map(g, data, output=tmp_path / "out")
    assert answers(tmp_path / "out") == ["hello", "MapError"]


# -- failures ----------------------------------------------------------------------------------------------


def test_a_failure_has_a_row_and_stops_nothing(tmp_path: Path) -> None:
    """Class, message, node and notes; a node that ends the program ends its item."""
    done = tokenloom.map(toy(), items("a", "raise", "exit", "b"), output=tmp_path)
    assert answers(tmp_path) == ["a", "ZeroDivisionError", "RuntimeError", "b"]
    assert (done.ok, done.failed, done.errors) == (2, 2, {"ZeroDivisionError": 1, "RuntimeError": 1})
    error = rows(tmp_path)[1]["error"]
    assert (error["message"], error["stage"]) == ("the bottom is nought", "run")
    assert (error["node"], error["node_type"]) == ("checked", "map_check")
    assert error["notes"][0].startswith("in node checked (map_check)")
    assert rows(tmp_path)[2]["error"]["message"] == "SystemExit: 3"


def test_a_failure_among_streamed_results() -> None:
    """It has no outputs, and says why."""
    bad, good = tokenloom.map(toy(), items("raise", "b"))
    assert bad.failure is not None
    assert str(bad.failure) == "ZeroDivisionError in checked: the bottom is nought"
    assert (dict(bad.outputs), good.failure) == ({}, None)


def test_lines_that_are_no_items_have_rows(tmp_path: Path) -> None:
    """No JSON, no UTF-8, no object, unknown or missing parameters, values of another type."""
    data = tmp_path / "items.jsonl"
    data.write_bytes(
        b'\xef\xbb\xbf{"text": "a"}\n{"text"\n{"text": "\xff"}\n[1]\n{"txt": "a"}\n{"id": "x"}\n'
        b'{"text": "b", "times": "no"}\n{"text": "\\ud800"}\n'
    )
    tokenloom.map(toy(), data, output=tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [row["id"] for row in found] == ["1", "line 2", "line 3", "line 4", "5", "x", "7", "8"]
    assert [row["error"]["message"] for row in found if "error" in row] == [
        f"{data}:2: is no JSON (Expecting ':' delimiter: line 1 column 8 (char 7)); wanted one object per "
        "line",
        f"{data}:3: is no UTF-8 text; wanted one JSON object per line",
        f'{data}:4: wanted an object such as {{"question": ...}}, got [1]',
        f"{data}:5: no parameter of the graph is called 'txt'; did you mean 'text'?\n{data}:5: no text",
        f"{data}:6: no text",
        f"{data}:7.times: 'no' is a str, wanted int 0..",
    ]
    assert found[7]["answer"] == "\ud800"
    assert tokenloom.map(toy(), data, output=tmp_path / "out").fresh == 0


def test_fail_fast_raises_the_error_itself(tmp_path: Path) -> None:
    """The failed item has no row; without the option the rest goes on from there."""
    data = items("a", "raise", "b")
    with pytest.raises(ZeroDivisionError) as error:
        tokenloom.map(toy(), data, output=tmp_path, fail_fast=True)
    assert error.value.__notes__[-1] == "in item '2' (items[1]); it has no row, and will be run again"
    assert answers(tmp_path) == ["a"]
    tokenloom.map(toy(), data, output=tmp_path)
    assert answers(tmp_path) == ["a", "ZeroDivisionError", "b"]


def test_errors_of_disk_and_network_are_tried_again(tmp_path: Path) -> None:
    """As often as said; other errors are not."""
    tokenloom.map(toy(), items("flaky3", "flaky9", "raise"), output=tmp_path, backoff=0)
    assert answers(tmp_path) == ["flaky3", "MediaError", "ZeroDivisionError"]
    assert [row["tries"] for row in rows(tmp_path)] == [3, 3, 1]


def test_a_lost_accelerator_ends_the_process_not_the_rows(tmp_path: Path) -> None:
    """What follows would fail without a fault of its own; a new process goes on behind the culprit."""
    data = items("a", "lost", "b")
    assert refused(data, output=tmp_path) == (
        "the accelerator cannot be used any more by this process; the same call goes on with the items that "
        "are left"
    )
    assert answers(tmp_path) == ["a", "AcceleratorError"]
    tokenloom.map(toy(), data, output=tmp_path)
    assert answers(tmp_path) == ["a", "AcceleratorError", "b"]


def test_cancel_stops_between_items(tmp_path: Path) -> None:
    """What was done has its rows."""
    with pytest.raises(Cancelled):
        tokenloom.map(toy(), items(*"abcd"), output=tmp_path, cancel=lambda: CALLS["b"] > 1)
    assert answers(tmp_path) == ["a", "b"]


def test_failures_are_run_again_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their places, also in earlier parts; their lines may have been mended."""
    monkeypatch.setattr(folder_module, "ROWS", 2)
    data = lines(tmp_path / "items.jsonl", *items("a", "raise", "b", "c", "raise"), "{")
    out = tmp_path / "out"
    tokenloom.map(toy(), data, output=out)
    lines(data, *items("a", "A", "b", "c", "raise", "F", "G"))
    assert "is not the item '2' that row 1 of" in refused(data, output=out)
    CALLS.clear()
    done = tokenloom.map(toy(), data, output=out, retry_failed=True)
    assert answers(out) == ["a", "A", "b", "c", "ZeroDivisionError", "F", "G"]
    assert (done.total, done.failed, done.fresh) == (7, 1, 4)
    assert done.errors == {"ZeroDivisionError": 1}
    assert CALLS.keys() == {"A", "raise", "F", "G"}
    assert [row["index"] for row in rows(out)] == list(range(7))


# -- refused before any work -------------------------------------------------------------------------------


def test_strict_refuses_everything_that_is_wrong_at_once(tmp_path: Path) -> None:
    """No folder is left behind."""
    data = lines(tmp_path / "items.jsonl", {"text": "a"}, {"txt": "b"}, "{")
    assert refused(data, strict=True, output=tmp_path / "out") == (
        "2 of 3 items cannot be run:\n"
        f"{data}:2: no parameter of the graph is called 'txt'; did you mean 'text'?\n"
        f"{data}:2: no text\n"
        f"{data}:3: is no JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char "
        "1)); wanted one object per line"
    )
    assert not (tmp_path / "out").exists()
    assert not CALLS


def test_items_that_are_all_wrong_are_refused() -> None:
    """That is one mistake, and no hundred thousand failures."""
    assert refused([{"txt": "a"}] * 2, limit=1).startswith("1 of 1 items cannot be run:\nitems[0]: no par")


def test_doubled_ids_are_refused(tmp_path: Path) -> None:
    """Rows are known by them. An iterator is stopped where it happens."""
    data = lines(tmp_path / "a.jsonl", {"text": "a", "id": "2"}, {"text": "b"}, {"text": "c", "id": "2"})
    twice = "the id '2' is that of {} too; results are known by their ids"
    assert refused(data) == (f"{data}:2: {twice.format(f'{data}:1')}\n{data}:3: {twice.format(f'{data}:1')}")
    found = tokenloom.map(toy(), iter([{"text": "a", "id": "2"}, {"text": "b"}]))
    assert next(found).id == "2"
    with pytest.raises(MapError) as error:
        next(found)
    assert str(error.value) == f"items[1]: {twice.format('items[0]')}"


def test_data_that_is_none_is_refused(tmp_path: Path) -> None:
    """Empty, missing, a folder."""
    assert refused(lines(tmp_path / "a.jsonl")) == f"{tmp_path}/a.jsonl: holds no items; wanted at least one"
    assert refused(iter([])) == "items: holds no items; wanted at least one"
    assert refused(tmp_path / "b.jsonl") == f"{tmp_path}/b.jsonl: cannot be read: No such file or directory"
    assert refused(tmp_path) == f"{tmp_path}: is no file; wanted JSON lines, which are read more than once"


def test_what_no_item_can_be_planned_with_is_refused(tmp_path: Path) -> None:
    """With the error of the first."""
    with pytest.raises(LoomError) as error:
        tokenloom.map(toy(), items("a"), output=tmp_path / "out", device="cuda:99")
    assert "cuda:99" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_common_parameters_must_change_something() -> None:
    """One that every item gives would not; one that some give is for the others."""
    assert refused(items("a"), text="b") == (
        "params.text: every item gives it, so the common value would change nothing"
    )
    found = tokenloom.map(toy(), [{"text": "a"}, {"times": 1}], text="b")
    assert [one.outputs["answer"] for one in found] == ["a", "b"]
    with pytest.raises(GraphError):
        tokenloom.map(toy(), items("a"), time=2)


def test_an_output_that_is_to_be_saved_must_be_there() -> None:
    """Before any work."""
    assert refused(items("a"), save=["sad"], output="x") == (
        "save: the graph has no output 'sad'; did you mean 'said'?"
    )
    assert not Path("x").exists()


# -- resuming ----------------------------------------------------------------------------------------------


def test_rows_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    """Items may be added at the end; an iterator is taken up where the rows end."""
    tokenloom.map(toy(), iter(items("a", "b")), output=tmp_path)
    CALLS.clear()
    done = tokenloom.map(toy(), iter(items("a", "b", "c")), output=tmp_path)
    assert CALLS.keys() == {"c"}
    assert (done.total, done.fresh) == (3, 1)
    assert answers(tmp_path) == ["a", "b", "c"]


def test_other_items_are_refused(tmp_path: Path) -> None:
    """Another order, fewer of them; with a limit, fewer are meant."""
    tokenloom.map(toy(), items("a", "b"), output=tmp_path)
    assert refused(items("b", "a", "c"), output=tmp_path) == (
        f"items[0]: is not the item '1' that row 0 of {tmp_path} was made of; items may be added at the end "
        "only: choose another folder"
    )
    assert refused(items("a"), output=tmp_path) == f"{tmp_path}: holds more rows than there are items (2)"
    assert tokenloom.map(toy(), items("a", "b"), output=tmp_path, limit=1).fresh == 0


def test_another_map_is_refused_and_every_difference_named(tmp_path: Path) -> None:
    """Graph, parameters, dtype, outputs that are saved, versions, code."""
    tokenloom.map(toy(), items("a"), output=tmp_path)
    before = (tmp_path / "part-00000.jsonl").read_bytes()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    manifest["nodes"]["map_say"]["code"] = "else"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    graph = toy()
    graph.title = "other"
    text = refused(items("a"), graph, output=tmp_path, times=3, dtype="bfloat16", save=["said"])
    assert text.split("\n") == [
        f"{tmp_path}: was begun with something else, and its rows would not fit together; choose another "
        "folder, or undo:",
        "  the graph (toy, now other)",
        "    - title: toy",
        "    + title: other",
        "  the parameter times: not given, now 3",
        "  the code of node map_say",
        f'  the version of torch: "1.0", now "{version("torch")}"',
        '  dtype: "float32", now "bfloat16"',
        '  save: [], now ["said"]',
    ]
    assert (tmp_path / "part-00000.jsonl").read_bytes() == before


def test_a_torn_row_is_made_again(tmp_path: Path) -> None:
    """As a kill in the middle of writing leaves it; temporary files go."""
    tokenloom.map(toy(), items("a", "b"), output=tmp_path)
    part = tmp_path / "part-00000.jsonl"
    part.write_bytes(part.read_bytes()[:-30])
    (tmp_path / "manifest.json.1.tmp").touch()
    done = tokenloom.map(toy(), items("a", "b"), output=tmp_path)
    assert (done.total, done.fresh) == (2, 1)
    assert answers(tmp_path) == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "manifest.json", "part-00000.jsonl"]


def test_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    """A file, a folder with other files, rows without a manifest, rows that were changed."""
    (tmp_path / "thesis.tex").touch()
    assert refused(items("a"), output=tmp_path) == (
        f"{tmp_path}: holds thesis.tex and no manifest.json, so it is no folder of a map; choose another "
        "folder"
    )
    assert refused(items("a"), output=tmp_path / "thesis.tex") == (
        f"{tmp_path}/thesis.tex: cannot be written: File exists"
    )
    out = tmp_path / "out"
    tokenloom.map(toy(), items("a", "b"), output=out)
    part = out / "part-00000.jsonl"
    part.write_bytes(part.read_bytes().split(b"\n")[1] + b"\n")
    assert refused(items("a", "b"), output=out) == (
        f"{part}:1: holds the row of item 1, wanted that of 0; the folder was changed by something else: "
        "choose another"
    )


def test_an_error_of_the_iterator_is_its_own(tmp_path: Path) -> None:
    """Rows that are there stay."""

    def broken() -> Iterator[dict[str, Any]]:
        yield {"text": "a"}
        raise LookupError("no more")

    with pytest.raises(LookupError):
        tokenloom.map(toy(), broken(), output=tmp_path)
    assert answers(tmp_path) == ["a"]
