"""How a process ends that has workers: stopped, killed or forked, it leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.media.test_pool import gone

ROOT = Path(__file__).parents[3]
HANGING = """
import sys
from tests.runtime.media.broken import Hang, Number
from tokenloom.runtime.media import DecodePool
pool = DecodePool(2)
print(pool.read("a", Number()), flush=True)
hanging = pool.submit("b", Hang())
"""


@contextmanager
def script(code: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that runs `code` after it has begun a request that hangs, and its worker's pid."""
    given = [sys.executable, "-c", HANGING + code]
    with subprocess.Popen(
        given, cwd=ROOT, stdout=-1, stderr=-1, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_ctrl_c_ends_though_a_worker_hangs() -> None:
    """A caller that waits is interrupted, and the worker goes with it."""
    with script("pool.read('b', Hang())") as (process, worker):
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        assert gone(worker)
        assert process.stderr is not None
        assert process.stderr.read().rstrip().endswith("KeyboardInterrupt")


def test_a_parent_that_is_killed_takes_its_workers_along() -> None:
    """Even by SIGKILL, and though a worker hangs."""
    with script("hanging.result()") as (process, worker):
        process.kill()
        process.wait(30)
        assert gone(worker)


def test_a_script_that_just_ends_leaves_nothing() -> None:
    """Without closing the pool, a worker hanging: it ends at once, and quietly."""
    with script("") as (process, worker):
        assert process.wait(30) == 0
        assert gone(worker)
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("end", ["sys.exit(0)", "import os; os._exit(0)"])
def test_a_fork_leaves_the_pool_to_its_parent(end: str) -> None:
    """A child that ends does not end its parent's workers, and is told to make its own pool."""
    code = f"""
import os, warnings
warnings.simplefilter("ignore")  # a fork of a process with threads
pid = os.fork()
if not pid:
    try:
        pool.read("a", Number())
    except RuntimeError as error:
        print(error, flush=True)
    {end}
os.waitpid(pid, 0)
print(pool.read("a", Number()) in pool.pids(), flush=True)
"""
    with script(code) as (process, _):
        assert process.stdout is not None
        assert process.stderr is not None
        out, errors = process.stdout.read(), process.stderr.read()
        assert out == f"this pool belongs to process {process.pid}; make one in this process\nTrue\n"
        assert errors == ""
