"""Decoding in workers: what crashes, hangs or is killed costs one file, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests import clips
from tests.runtime.media.broken import (
    Hang,
    Large,
    Leave,
    Modules,
    Number,
    Raise,
    ReadsNull,
    Signal,
    Spoil,
)
from tokenloom.runtime.errors import Cancelled, DecoderError, MediaError
from tokenloom.runtime.media import DecodePool, OpenClip, ReadFrames, ReadPicture
from tokenloom.runtime.media.desk import KEPT
from tokenloom.runtime.video import PartialDecode, open_source

SEGV = "SIGSEGV (signal 11) (it read 16 frames)"


@pytest.fixture(scope="module")
def shared() -> Iterator[DecodePool]:
    with DecodePool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.write_clip(tmp_path_factory.mktemp("clips") / "a.mp4")


def gone(pid: int, seconds: float = 2.0) -> bool:
    """Whether a process ends in this time (or waits for a parent that has not yet heard of it)."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def eventually(true: Callable[[], bool], seconds: float = 2.0) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


def blocks() -> int:
    """Mappings and descriptors of shared memory that this process holds."""
    held = Path("/proc/self/maps").read_text().count("memfd:tokenloom")
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            held += "memfd:" in os.readlink(f"/proc/self/fd/{number}")
    return held


def private() -> int:
    """Bytes of this process's memory that no file backs."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def test_frames_are_those_of_reading_here(shared: DecodePool, clip: Path) -> None:
    """The same pixels, type and order, in memory of one's own that can be written to."""
    wanted = (7, 0, 39, 7)
    got = shared.read(clip, ReadFrames(wanted))
    with open_source(clip) as source:
        assert np.array_equal(got, source.get(wanted))
    assert (got.dtype, got.shape) == (np.uint8, (4, 48, 64, 3))
    got[:] = 0
    assert clips.numbers_of(shared.read(clip, ReadFrames(wanted))) == list(wanted)


def test_facts_are_those_of_the_open_clip(shared: DecodePool, clip: Path) -> None:
    """Times, rate, size, rotation and back end."""
    facts = shared.read(clip, OpenClip())
    with open_source(clip) as source:
        assert np.array_equal(facts.pts, source.pts)
        for name in ("backend", "fps", "rotation", "width", "height", "first"):
            assert getattr(facts, name) == getattr(source, name)


def test_a_picture(shared: DecodePool, tmp_path: Path) -> None:
    """RGB uint8 [H, W, 3]."""
    clips.write_folder(tmp_path / "f", 3)
    assert clips.number_of(shared.read(tmp_path / "f" / "3.png", ReadPicture())) == 2


def test_a_worker_imports_no_torch(shared: DecodePool, tmp_path: Path) -> None:
    """It stays small and comes up fast."""
    loaded = shared.read(tmp_path, Modules())
    assert isinstance(loaded, list)
    assert not {"torch", "transformers", "networkx", "typer", "multiprocessing"} & set(loaded)


@pytest.mark.parametrize(
    ("request_", "message", "number"),
    [
        (Signal(), f"its decoder crashed with {SEGV}; convert the file, or leave it out", 11),
        (ReadsNull(), f"its decoder crashed with {SEGV}; convert the file, or leave it out", 11),
        (Signal(signal.SIGKILL), "its decoder was killed by SIGKILL (signal 9) (it read 16 frames), by the "
         "system if memory ran out; take fewer frames or fewer workers, or leave the file out", 9),
        (Leave(), "its decoder ended its process with status 3 (it read 16 frames); convert the file, or "
         "leave it out", None),
    ],
)  # fmt: skip
def test_a_decoder_that_dies_costs_one_file(request_: Signal, message: str, number: int | None) -> None:
    """The error names the file, what happened and what to do; the next file is read by a new worker."""
    with DecodePool(1) as pool:
        first = pool.read("a.mp4", Number())
        with pytest.raises(DecoderError) as caught:
            pool.read("bad.mp4", request_)
        assert str(caught.value) == f"bad.mp4: {message}"
        assert (caught.value.path, caught.value.signal) == ("bad.mp4", number)
        assert pool.read("b.mp4", Number()) != first


def test_a_decoder_that_hangs_costs_one_file_and_its_timeout() -> None:
    """It is killed when its time is over."""
    with DecodePool(1) as pool:
        first = pool.read("a.mp4", Number())
        assert isinstance(first, int)
        begin = time.monotonic()
        with pytest.raises(DecoderError) as caught:
            pool.submit("bad.mp4", Hang(), timeout=0.2).result()
        assert time.monotonic() - begin < 10
        assert str(caught.value) == (
            "bad.mp4: its decoder gave no answer for 0.2 s (it read 16 frames) and was stopped; leave the "
            "file out, or give it longer by TOKENLOOM_DECODE_TIMEOUT=SECONDS"
        )
        assert caught.value.seconds == 0.2
        assert gone(first)
        assert pool.read("b.mp4", Number()) != first


def test_a_file_is_not_blamed_for_what_another_has_spoilt() -> None:
    """After a crash, a request that was not its worker's first is tried once more in a fresh worker."""
    with DecodePool(1) as pool:
        first = pool.read("a.mp4", Spoil())
        assert pool.read("b.mp4", Spoil()) != first


def test_an_idle_worker_that_was_killed_is_replaced() -> None:
    """Nobody hears of it."""
    with DecodePool(1) as pool:
        pid = pool.read("a.mp4", Number())
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        assert pool.read("a.mp4", Number()) != pid  # whether or not it is known to be gone


def test_many_clips_at_once_among_bad_ones(tmp_path: Path) -> None:
    """From eight threads through two workers: every good clip whole, every bad one its own error."""
    good = [clips.write_clip(tmp_path / f"{i}.mp4", 20 + i) for i in range(6)]
    cut = clips.truncated(good[5], tmp_path / "cut.mp4", 0.3)
    (empty := tmp_path / "empty.mp4").touch()

    def asked(number: int) -> object:
        path = [*good, cut, empty][number % 8]
        try:
            if number == 12:
                return pool.read(path, Signal())
            return clips.numbers_of(pool.read(path, ReadFrames(tuple(range(0, 20, 5)))))
        except MediaError as error:
            return error

    with DecodePool(2, timeout=20) as pool, ThreadPoolExecutor(8) as threads:
        got = list(threads.map(asked, range(24)))
        assert len(pool.pids()) <= 2
    for number, one in enumerate(got):
        if number == 12:
            assert isinstance(one, DecoderError)
        elif number % 8 == 6:
            assert str(one).startswith(f"{cut}: not a video that FFmpeg can open")
        elif number % 8 == 7:
            assert str(one) == f"{empty}: the file is empty (0 bytes); fetch or write it again"
        else:
            assert one == [0, 5, 10, 15]


def test_what_could_be_decoded_of_a_damaged_clip_comes_back(shared: DecodePool, tmp_path: Path) -> None:
    """A PartialDecode holds the readable frames, as it does without workers."""
    with pytest.raises(PartialDecode, match="half") as caught:
        shared.read(tmp_path, Raise("PartialDecode"))
    assert list(caught.value.got) == [2]
    assert (caught.value.got[2] == 7).all()


def test_other_errors_keep_their_type_and_say_where_they_were_raised(shared: DecodePool) -> None:
    """The worker's traceback is a note."""
    with pytest.raises(ZeroDivisionError, match="by zero") as caught:
        shared.read("a.mp4", Raise())
    assert caught.value.__notes__[0].startswith("in a decode worker:\nTraceback")
    with pytest.raises(PermissionError, match=re.escape("[Errno 13] Permission denied: 'a.mp4'")):
        shared.read("a.mp4", Raise("PermissionError"))
    with pytest.raises(
        DecoderError, match=r"^a\.mp4: its decoder failed \(UnicodeDecodeError: 'utf-8' codec"
    ):
        shared.read("a.mp4", Raise("UnicodeDecodeError"))


def test_workers_are_few_lazy_and_reused(clip: Path) -> None:
    """None before the first request, one for one request after another, and it keeps the clip open."""
    with DecodePool(4) as pool:
        assert pool.pids() == []
        pids = {pool.read(clip, Number()) for _ in range(5)}
        assert len(pids) == 1
        assert set(pool.pids()) == pids
        pool.read(clip, OpenClip())
        worker = next(iter(pids))
        open_files = [os.readlink(one) for one in Path(f"/proc/{worker}/fd").iterdir()]
        assert str(clip) in open_files


def test_two_workers_read_at_the_same_time() -> None:
    """One that hangs does not hold up the other."""
    with DecodePool(2) as pool:
        slow = pool.submit("slow.mp4", Hang())
        assert pool.read("a.mp4", Number()) in pool.pids()
        assert not slow.done()


def test_relative_paths_follow_the_current_folder(
    shared: DecodePool, clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the process that asks, at that time; messages show the path as it was given."""
    monkeypatch.chdir(clip.parent)
    assert clips.numbers_of(shared.read(clip.name, ReadFrames((3,)))) == [3]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaError, match=r"^a\.mp4: no such file"):
        shared.read(clip.name, ReadFrames((3,)))


def test_a_clip_that_was_replaced_is_opened_again(shared: DecodePool, tmp_path: Path) -> None:
    """A worker's open clip is the file's present state."""
    path = clips.write_clip(tmp_path / "a.mp4", 10)
    assert len(shared.read(path, OpenClip()).pts) == 10
    os.replace(clips.write_clip(tmp_path / "b.mp4", 12), path)
    assert len(shared.read(path, OpenClip()).pts) == 12


def test_shared_memory_is_given_back_with_its_last_reader(shared: DecodePool) -> None:
    """Neither an open file nor a mapping stays behind, whatever is dropped or kept."""

    before = blocks()
    kept = [shared.read("a", Large(KEPT + 1)) for _ in range(8)]
    part = kept[3][10:20]
    assert blocks() == before + 8  # a mapping each, no descriptor
    kept.clear()
    assert blocks() == before + 1
    assert (part == 3).all()
    del part
    assert eventually(lambda: blocks() == before)


def test_a_large_answer_is_not_copied(shared: DecodePool) -> None:
    """This process takes no memory of its own for it."""
    before = private()
    array = shared.read("a", Large(KEPT + 1))
    assert array[:: 1 << 20].tolist() == [3] * 65
    assert private() - before < 16 << 20


def test_small_answers_share_one_memory_and_are_copied_out_of_it(shared: DecodePool) -> None:
    """A later one does not change an earlier one, be it larger or smaller; no memory is added."""
    first = shared.read("a", Large(5000))
    before = blocks()
    others = [shared.read("a", Large(count, fill)) for fill, count in enumerate((100, 5000, 300_000, 0))]
    assert (first == 3).all()
    assert [one.tolist() for one in others] == [[0] * 100, [1] * 5000, [2] * 300_000, []]
    assert blocks() == before


def test_closing_ends_workers_and_waiting_futures() -> None:
    """At once, even when a worker hangs; then the pool takes nothing more."""
    pool = DecodePool(1)
    pid = pool.read("a", Number())
    assert isinstance(pid, int)
    hanging, waiting = pool.submit("b", Hang()), pool.submit("c", Number())
    assert eventually(hanging.running)
    begin = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - begin < 1
    assert waiting.cancelled()
    with pytest.raises(CancelledError):
        hanging.result(1)
    assert gone(pid)
    with pytest.raises(RuntimeError, match="the pool is closed"):
        pool.submit("d", Number())


def test_a_forgotten_pool_closes_itself() -> None:
    """Its threads do not keep it, and end with it."""
    before = threading.active_count()
    pool = DecodePool(1)
    pid = pool.read("a", Number())
    assert isinstance(pid, int)
    del pool
    gc.collect()
    assert gone(pid)
    assert eventually(lambda: threading.active_count() <= before)


def test_a_cancelled_run_leaves_a_hanging_decoder() -> None:
    """Within a moment, and its worker is replaced."""
    stop = threading.Event()
    with DecodePool(1) as pool:
        pid = pool.read("a", Number())
        assert isinstance(pid, int)
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(Cancelled, match="stopped on request"):
            pool.read("b", Hang(), stop.is_set)
        assert gone(pid)
        assert pool.read("a", Number()) != pid


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "DecodePool: workers is 0, wanted 1 or more"),
        ({"timeout": 0.0}, "DecodePool: timeout is 0.0, wanted more than 0 seconds"),
        ({"timeout": float("nan")}, "DecodePool: timeout is nan, wanted more than 0 seconds"),
    ],
)
def test_bad_sizes_are_refused(given: dict[str, float], message: str) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DecodePool(**given)  # type: ignore[arg-type]
