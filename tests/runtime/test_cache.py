"""The cache: what hits, what misses and why, damaged files, several processes, budgets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from tokenloom.runtime.cache import Cache, CacheWarning, Memory, default_folder
from tokenloom.runtime.disk import Disk
from tokenloom.runtime.entries import explain_entry, list_entries, remove_entries
from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.files import MISSING_FILE, file_fingerprint
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.node import node
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import run
from tokenloom.runtime.store import pack

from . import engine_nodes as e


@pytest.fixture(autouse=True)
def _calls() -> None:
    e.CALLS.clear()


def chain() -> Graph:
    with Graph() as g:
        tokens = g.named("encode", e.eng_encode)(count=g.param("count", int, default=6))
        halves = g.named("halves", e.eng_halve)(tokens, keep=g.param("keep", int, default=2))
        g.output(kept=e.eng_count(halves.kept))
    return g


def reader(path: Path) -> Graph:
    with Graph() as g:
        g.output(out=g.named("read", e.eng_read)(path=path))
    return g


def only_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.safetensors")
    return path


@pytest.mark.parametrize("tier", ["memory", "disk"])
def test_editing_a_widget_reruns_only_what_follows(tier: str, tmp_path: Path) -> None:
    """A changed setting re-runs its node and what follows; what lies before comes from the cache."""
    cache = Cache(tmp_path if tier == "disk" else None)
    run(chain(), cache=cache)
    assert e.CALLS == ["encode", "halve 2", "count"]
    e.CALLS.clear()
    again = cache if tier == "memory" else Cache(tmp_path)
    assert run(chain(), cache=again, keep=3)["kept"] == 3
    assert e.CALLS == ["halve 3", "count"]
    e.CALLS.clear()
    result = run(chain(), cache=again, keep=3)
    assert result["kept"] == 3
    assert e.CALLS == []
    assert [(row.id, row.cached) for row in result.report] == [("eng_count", "memory")]


def test_reports_say_which_tier(tmp_path: Path) -> None:
    """A value that another process left is marked as from disk."""
    run(chain(), cache=Cache(tmp_path))
    assert [row.cached for row in run(chain(), cache=Cache(tmp_path)).report] == ["disk"]


def test_a_hit_is_the_same_object() -> None:
    """A lookup in memory copies nothing."""
    cache = Cache(None)
    with Graph() as g:
        g.output(out=e.eng_encode())
    assert run(g, cache=cache)["out"] is run(g, cache=cache)["out"]


def test_replaced_bytes_miss(tmp_path: Path) -> None:
    """New bytes in an input file miss, even with the old size and modification time; touching it hits."""
    path, cache = tmp_path / "cat.jpg", Cache(None)
    path.write_text("one")
    status = path.stat()
    assert run(reader(path), cache=cache)["out"] == "one"
    os.utime(path)
    assert run(reader(path), cache=cache)["out"] == "one"
    assert e.CALLS == ["read"]
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert plan(reader(path), cache=cache).why("read") == "file cat.jpg changed"
    assert run(reader(path), cache=cache)["out"] == "two"


def test_replaced_bytes_in_a_folder_miss(tmp_path: Path) -> None:
    """A folder is its files: names and bytes, at any depth."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("1")
    first = file_fingerprint(tmp_path / "a")
    (tmp_path / "a" / "b" / "x").write_text("2")
    second = file_fingerprint(tmp_path / "a")
    (tmp_path / "a" / "b" / "x").rename(tmp_path / "a" / "b" / "y")
    assert len({first, second, file_fingerprint(tmp_path / "a")}) == 3
    assert file_fingerprint(tmp_path / "gone") == MISSING_FILE


class Handle:
    """What a model handle is to the planner: a fingerprint of the checkpoint's files."""

    kind, dtype, device = int, "float32", "cpu"

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint


def _see(*, folder: str) -> Handle:
    return Handle(file_fingerprint(folder))


@node(foresee=_see)
def eng_checkpoint(*, folder: str) -> str:
    e.CALLS.append("load")
    return (Path(folder) / "model").read_text()


def test_replaced_checkpoint_misses(tmp_path: Path) -> None:
    """A foreseen handle puts its fingerprint into the key, though the setting is a plain name."""
    (tmp_path / "model").write_text("w1")
    cache = Cache(None)
    with Graph() as g:
        g.output(out=g.named("load", eng_checkpoint)(folder=str(tmp_path)))
    assert run(g, cache=cache)["out"] == run(g, cache=cache)["out"] == "w1"
    assert e.CALLS == ["load"]
    (tmp_path / "model").write_text("w2")
    assert plan(g, cache=cache).why("load") == "model files changed"
    assert run(g, cache=cache)["out"] == "w2"


def test_impure_nodes_are_never_cached() -> None:
    """An impure node and what follows it run every time, and the plan says so."""
    cache = Cache(None)
    with Graph() as g:
        g.output(out=g.named("same", e.eng_same)(g.named("clock", e.eng_clock)()))
    run(g, cache=cache)
    run(g, cache=cache)
    assert e.CALLS == ["clock", "same"] * 2
    made = plan(g, cache=cache)
    assert (made.why("clock"), made.why("same")) == ("never cached (impure)", "follows an impure step")


def test_wanted_channels_are_part_of_the_key() -> None:
    """The same encoder with other side channels asked of it is another value."""
    cache = Cache(None)
    run(chain(), cache=cache)
    with Graph() as g:
        g.output(out=e.eng_use_keys(g.named("encode", e.eng_encode)(count=6)))
    assert plan(g, cache=cache).why("encode") == "side channels none -> keys"
    assert run(g, cache=cache)["out"] == ["keys"]


def test_device_and_dtype_are_part_of_the_key() -> None:
    """Another number format misses and says so."""
    cache = Cache(None)
    run(chain(), cache=cache, dtype="float32")
    assert plan(chain(), cache=cache, dtype="float16").why("encode") == "dtype float32 -> float16"


def test_explain_across_processes(tmp_path: Path) -> None:
    """The manifests on disk say what changed since another process ran."""
    run(chain(), cache=Cache(tmp_path))
    assert plan(chain(), {"keep": 5}, cache=Cache(tmp_path)).why("halves") == "keep 2 -> 5"
    assert plan(chain(), {"count": 7}, cache=Cache(tmp_path)).why("halves") == (
        "input tokens changed (encode)"
    )


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "header"])
def test_damaged_file(damage: str, tmp_path: Path) -> None:
    """A damaged cache file is a miss with a warning, and the right value is computed and stored again."""
    with Graph() as g:
        g.output(out=e.eng_encode())
    run(g, cache=Cache(tmp_path))
    path = only_file(tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-3] ^= 1
    elif damage == "header":
        data[60] ^= 1
    path.write_bytes({"truncate": data[:-5], "empty": b""}.get(damage, data))
    with pytest.warns(CacheWarning, match=r"is damaged \(.*\); computed again"):
        result = run(g, cache=Cache(tmp_path))
    assert result["out"].features.equal(e.tokens().features)
    assert e.CALLS == ["encode", "encode"]
    assert run(g, cache=Cache(tmp_path))["out"].features.equal(e.tokens().features)
    assert len(e.CALLS) == 2


def test_file_of_another_key(tmp_path: Path) -> None:
    """A sound cache file under another key's name is a miss with a warning, never the other key's value."""
    disk, mine, other = Disk(tmp_path, 1 << 30), "ab" + "0" * 30, "ab" + "1" * 30
    disk.write(mine, pack(torch.arange(3)), {"seconds": 1.0})
    disk.path(mine).rename(disk.path(other))
    with pytest.warns(CacheWarning) as caught:
        assert disk.read(other) is None
    damaged = f"cache file {disk.path(other)} is damaged (it holds the value of key {mine}); computed again"
    assert [str(w.message) for w in caught] == [damaged]
    assert not disk.has(other)


@pytest.mark.parametrize(
    "text", ["", "null", '{"recipe": null}', '{"recipe": {"widgets": 3}}', '{"seconds": "x"}', "[" * 100_000]
)
def test_damaged_manifest(text: str, tmp_path: Path) -> None:
    """A manifest that is damaged is shown as unknown; its value still serves."""
    run(chain(), cache=Cache(tmp_path))
    for path in tmp_path.rglob("*.json"):
        path.write_text(text)
    cache = Cache(tmp_path)
    assert {row[1:4] for row in list_entries(cache).rows} == {("?", "?", "?")}
    assert plan(chain(), {"keep": 5}, cache=cache).why("halves") == "never cached"
    calls = len(e.CALLS)
    assert run(chain(), cache=cache)["kept"] == 2
    assert len(e.CALLS) == calls


def test_damaged_file_before_which_nothing_is_cached(tmp_path: Path) -> None:
    """When the damaged value's own inputs are needed again, they are found or computed too."""
    run(chain(), cache=Cache(tmp_path))
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(b"rubbish")
    with pytest.warns(CacheWarning):
        assert run(chain(), cache=Cache(tmp_path))["kept"] == 2


def test_unwritable_folder_is_one_warning(tmp_path: Path) -> None:
    """A cache folder that takes nothing (here: a file in its place) is one warning; the run goes on."""
    (tmp_path / "cache").write_text("a file")
    with pytest.warns(CacheWarning) as caught:
        assert run(chain(), cache=Cache(tmp_path / "cache"))["kept"] == 2
    assert len(caught) == 1
    assert "the run goes on without it" in str(caught[0].message)


def test_full_disk_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full is one warning, and no half file stays."""

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(CacheWarning, match="cannot be written: No space left on device") as caught:
        assert run(chain(), cache=Cache(tmp_path))["kept"] == 2
    assert len(caught) == 1
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


WRITER = """
import os, signal, sys, torch
from pathlib import Path
from tokenloom.runtime.disk import Disk
from tokenloom.runtime.store import pack
disk = Disk(Path(sys.argv[1]), 1 << 30)
real = os.fsync
def fsync(fd):
    real(fd)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "kill":
    os.fsync = fsync
for i in range(int(sys.argv[3])):
    disk.write("ab" + "0" * 30, pack(torch.arange(50000)), {"seconds": 1.0})
"""


def writer(folder: Path, how: str, times: int) -> subprocess.Popen[bytes]:
    code = textwrap.dedent(WRITER)
    return subprocess.Popen([sys.executable, "-c", code, str(folder), how, str(times)])


def test_sigkill_while_writing(tmp_path: Path) -> None:
    """A writer that is killed between writing and renaming leaves nothing that is read."""
    assert writer(tmp_path, "kill", 1).wait() == -signal.SIGKILL
    left = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert len(left) == 1
    assert left[0].endswith(".tmp")
    disk = Disk(tmp_path, 1 << 30)
    assert not disk.has("ab" + "0" * 30)
    assert disk.read("ab" + "0" * 30) is None
    assert disk.entries() == []


def test_two_processes_write_while_a_third_reads(tmp_path: Path) -> None:
    """A reader sees a whole value or none while two processes write the same key."""
    key, disk = "ab" + "0" * 30, Disk(tmp_path, 1 << 30)
    both = [writer(tmp_path, "go", 15) for _ in range(2)]
    seen = 0
    while any(process.poll() is None for process in both):
        found = disk.read(key)
        if found is not None:
            assert found[0].equal(torch.arange(50000))
            seen += 1
        time.sleep(0.01)
    assert [process.returncode for process in both] == [0, 0]
    assert seen > 0
    assert [p.name for p in sorted(tmp_path.rglob("*.*"))] == [f"{key}.json", f"{key}.safetensors"]


def test_memory_budget_keeps_what_saves_most() -> None:
    """What saves the fewest seconds per byte goes first; what is larger than the budget never comes in."""
    memory = Memory(100)
    memory.put("cheap", 1, 40, 0.001)
    memory.put("dear", 2, 40, 5.0)
    memory.put("other", 3, 40, 1.0)
    assert set(memory.held) == {"dear", "other"}
    memory.put("huge", 4, 101, 9.0)
    assert set(memory.held) == {"dear", "other"}
    assert memory.bytes == 80


def test_disk_budget_drops_the_oldest(tmp_path: Path) -> None:
    """Beyond the budget the values not used for longest go; files of killed writers go after an hour."""
    disk = Disk(tmp_path, 3000)
    for i in range(4):
        disk.write(f"{i:032d}", pack(torch.zeros(200)), {"seconds": 1.0})
        os.utime(disk.path(f"{i:032d}"), (1000 + i, 1000 + i))
    disk.read(f"{0:032d}")
    stale = tmp_path / "00" / "x.tmp"
    stale.write_text("left")
    os.utime(stale, (1000, 1000))
    disk.settle()
    assert {entry.key for entry in disk.entries()} == {f"{0:032d}", f"{3:032d}"}
    assert not stale.exists()


def test_large_and_quick_values_stay_in_memory(tmp_path: Path) -> None:
    """A value above a megabyte that was quick to make is not written to disk."""

    @node(name="eng_large")
    def large() -> torch.Tensor:
        return torch.zeros(1 << 19)

    with Graph() as g:
        g.output(out=large())
    cache = Cache(tmp_path)
    run(g, cache=cache)
    assert cache.entries() == []
    assert plan(g, cache=cache).by_id["eng_large"].state == "memory"


def test_unstorable_values_stay_in_memory(tmp_path: Path) -> None:
    """A value of a class that nobody registered is cached in memory only."""

    class Odd:
        pass

    @node(name="eng_odd")
    def odd() -> object:
        return Odd()

    with Graph() as g:
        g.output(out=odd())
    cache = Cache(tmp_path)
    run(g, cache=cache)
    assert (cache.entries(), plan(g, cache=cache).by_id["eng_odd"].state) == ([], "memory")


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """TOKENLOOM_CACHE names the folder; else it lies in the user's cache folder."""
    monkeypatch.setenv("TOKENLOOM_CACHE", "/some/where")
    assert default_folder() == Path("/some/where")
    monkeypatch.setenv("TOKENLOOM_CACHE", "~nobody-of-that-name/cache")
    assert default_folder() == Path("~nobody-of-that-name/cache")
    monkeypatch.delenv("TOKENLOOM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    if sys.platform == "linux":
        assert default_folder() == Path("/xdg/tokenloom")


def test_cache_commands(tmp_path: Path) -> None:
    """`ls` lists, `explain -v` tells the recipe, `rm` forgets by node or key; unknown names are errors."""
    cache = Cache(tmp_path)
    run(chain(), cache=cache)
    table = list_entries(cache)
    assert {row[1] for row in table.rows} == {"encode", "halves", "eng_count"}
    assert table.title.startswith(str(tmp_path))
    told = explain_entry(cache, "halves", details=True)
    assert told.startswith("halves (eng_halve): Halves, key ")
    assert "  widgets: keep = 2" in told.split("\n")
    assert [row[1] for row in remove_entries(cache, ["halves"]).rows] == ["halves"]
    with pytest.raises(GraphError) as error:
        remove_entries(cache, ["halves"])
    assert str(error.value) == "cache rm: no key starts with 'halves' and no node is called so"
    with pytest.raises(GraphError, match="cache explain: no key starts with 'nothing'"):
        explain_entry(cache, "nothing")
    remove_entries(cache)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def explained(folder: Path, name: str) -> list[str]:
    """The lines of `explain` without the keys."""
    told = explain_entry(Cache(folder), name)
    return [re.sub("[0-9a-f]{12,}", "KEY", line) for line in told.split("\n")]


def test_explain_names_what_changed(tmp_path: Path) -> None:
    """The newest value against the earlier ones of its node: settings, and inputs with the nodes behind."""
    run(chain(), cache=Cache(tmp_path))
    assert explained(tmp_path, "halves") == [
        "halves (eng_halve): Halves, key KEY",
        "nothing to compare it with: no earlier value of this node is on disk",
    ]
    time.sleep(0.02)
    run(chain(), keep=5, cache=Cache(tmp_path))
    against = "compared with KEY, used before it:"
    assert explained(tmp_path, "halves")[1:] == [against, "  keep 2 -> 5"]
    time.sleep(0.02)
    run(chain(), count=7, cache=Cache(tmp_path))
    assert explained(tmp_path, "halves")[1:] == [
        against,
        "  keep 5 -> 2",
        "  input tokens changed (encode)",
        against,
        "  input tokens changed (encode)",
    ]


def test_explain_names_the_file_that_changed(tmp_path: Path) -> None:
    """Its name, when other bytes lie at the same path."""
    cache, file = tmp_path / "cache", tmp_path / "cat.txt"
    for text in ("one", "other"):
        file.write_text(text)
        run(reader(file), cache=Cache(cache))
        time.sleep(0.02)
    assert explained(cache, "read")[2:] == ["  file cat.txt changed"]


def test_manifest_is_readable(tmp_path: Path) -> None:
    """Beside every value lies JSON that says what it is and from what."""
    run(chain(), cache=Cache(tmp_path), outputs=["encode"])
    manifest = json.loads(only_file(tmp_path).with_suffix(".json").read_text())
    assert (manifest["name"], manifest["what"], manifest["recipe"]["widgets"]) == (
        "encode",
        "Tokens",
        {"count": "6"},
    )
