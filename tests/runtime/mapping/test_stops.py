"""Kills, full disks, two processes, memory: nothing is lost, nothing is there twice, nothing grows.

Processes are forked from a server that has imported everything, so that each starts in milliseconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import time
import tracemalloc
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import tokenloom
from tokenloom import Graph
from tokenloom.runtime.errors import MapError, RowsError
from tokenloom.runtime.mapping import folder as folder_module
from tokenloom.runtime.mapping.api import Summary
from tokenloom.runtime.mapping.folder import Folder, parts
from tokenloom.runtime.rows import read_rows

from .nodes import items, map_large, map_picture, map_size, toy

KILLS = 20
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tokenloom.nodes", "tokenloom.runtime.mapping.api", __name__])


def in_process(work: Callable[..., object], *args: Any) -> BaseProcess:
    process = _server.Process(target=work, args=args)
    process.start()
    return process


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for part in parts(path) for row in read_rows(part)]


def drawn() -> Graph:
    """The toy, with a picture of each text."""
    graph = toy()
    with graph:
        graph.output(picture=map_picture(graph["said"]))
    return graph


def data(count: int) -> list[dict[str, Any]]:
    """Every fifth fails."""
    return [{"id": f"i{n}", "text": "raise" if n % 5 == 4 else f"t{n}"} for n in range(count)]


def written(out: Path) -> int:
    """Bytes of rows."""
    return sum(part.stat().st_size for part in parts(out))


def work(out: Path, count: int) -> Summary:
    folder_module.ROWS = 25  # many parts
    return tokenloom.map(drawn(), data(count), output=out, save=["picture"])


def test_killed_twenty_times_there_is_one_row_for_every_id(tmp_path: Path) -> None:
    """At random moments of its start, its work and its writing; no item is run twice whose row is there."""
    out, chance = tmp_path / "out", random.Random(8)
    count, seen, size = 300, 0, 0
    for kill in range(KILLS):
        process = in_process(work, out, count)
        while kill % 4 and written(out) <= size:  # else while it starts
            assert process.exitcode is None, "it ended before it could be killed"
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        before, seen, size = seen, len(rows(out)), written(out)
        assert seen >= before
    assert 0 < seen < count
    done = work(out, count)
    assert (done.total, done.fresh, done.failed) == (count, count - seen, count // 5)
    found = rows(out)
    assert [row["id"] for row in found] == [f"i{n}" for n in range(count)]
    assert [row["index"] for row in found] == list(range(count))
    files = {path.relative_to(out).as_posix() for path in (out / "files").rglob("*") if path.is_file()}
    assert files == {row["files"]["picture"] for row in found if "error" not in row}
    assert not list(out.rglob("*.tmp"))


def kept_alive(out: Path, ready: Path) -> None:
    with Folder(out):
        ready.touch()
        time.sleep(60)


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    """It says whose turn it is; the lock dies with its holder."""
    out, ready = tmp_path / "out", tmp_path / "ready"
    process = in_process(kept_alive, out, ready)
    end = time.monotonic() + 60
    while not ready.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(MapError) as error:
        tokenloom.map(toy(), items("a"), output=out)
    assert str(error.value) == (
        f"{out}: another process (number {process.pid}) writes to it; wait for it, or choose another folder"
    )
    process.kill()
    process.join()
    assert tokenloom.map(toy(), items("a"), output=out).ok == 1


def small_disk(out: Path, told: Path) -> None:
    """No file may be larger than 4000 bytes: what a full disk does, at the same place every time."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    try:
        tokenloom.map(toy(), data(100), output=out)
    except RowsError as error:
        os.write(os.open(told, os.O_WRONLY | os.O_CREAT), str(error).encode())


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """The row that did not fit is cut off, the others stay, and the next run goes on with it."""
    out, told = tmp_path / "out", tmp_path / "told"
    in_process(small_disk, out, told).join(60)
    part = out / "part-00000.jsonl"
    assert told.read_text().startswith(f"{part}: a row cannot be written: ")
    assert part.read_bytes().endswith(b"}\n")
    there = len(rows(out))
    assert 3 < there < 100
    done = tokenloom.map(toy(), data(100), output=out)
    assert (done.total, done.fresh) == (100, 100 - there)
    assert [row["id"] for row in rows(out)] == [f"i{n}" for n in range(100)]


def no_room_for_files(out: Path, told: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    graph = toy()
    with graph:
        graph.output(large=map_large(graph["said"]))
    try:
        tokenloom.map(graph, data(3), output=out, save=["large"])
    except MapError as error:
        told.write_text(str(error))


def test_a_full_disk_is_no_failure_of_an_item(tmp_path: Path) -> None:
    """A file that cannot be saved stops the run; the item has no row yet, nor a part of a file."""
    out, told = tmp_path / "out", tmp_path / "told"
    in_process(no_room_for_files, out, told).join(60)
    assert told.read_text() == (
        f"{out}/files/00000/00000000.large.safetensors: cannot be written: File too large"
    )
    assert not rows(out)
    assert not list((out / "files").rglob("*.*"))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown(told: Path) -> None:
    """Items of a megabyte each: how much the process grows from the 20th to the 200th."""
    with Graph("large") as g:
        said = g.param("text", str)
        from .nodes import map_say

        text = map_say(text=said)
        g.output(answer=map_size(map_large(text), text))
    sizes: list[int] = []
    texts = items(*map(str, range(200)))
    tokenloom.map(g, texts, output=told.parent / "out", on_row=lambda row: sizes.append(resident()))
    told.write_text(json.dumps([sizes[20], max(sizes[100:])]))


def test_values_of_items_do_not_pile_up(tmp_path: Path) -> None:
    """200 items of a megabyte: the process stays as large as it was after twenty."""
    told = tmp_path / "told"
    in_process(grown, told).join(120)
    early, late = json.loads(told.read_text())
    assert late - early < 16 << 20


def test_memory_does_not_grow_with_the_number_of_items(tmp_path: Path) -> None:
    """The most that is held on the way: 100 items against 400, in rows."""
    data = tmp_path / "items.jsonl"
    data.write_text("".join(f'{{"text": "t{n}", "id": "number {n}"}}\n' for n in range(400)))
    folder_module_rows = folder_module.ROWS
    folder_module.ROWS = 20
    try:
        tokenloom.map(toy(), data, output=tmp_path / "first", limit=30)  # what is made once
        peaks: list[int] = []
        for limit in (100, 400):
            tracemalloc.start()
            tokenloom.map(toy(), data, output=tmp_path / f"{limit}", limit=limit)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    finally:
        folder_module.ROWS = folder_module_rows
    assert peaks[1] < peaks[0] + 50_000
