"""One worker process, seen from the process that started it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .wire import Answer, attach, receive, send

START = 60.0  # seconds that a worker may take to come up, on a machine that is busy

# A fresh interpreter, not a fork (threads and CUDA do not survive one) and not `multiprocessing` (which runs
# the caller's script again): the same package from the same folder, and the caller's sys.path.
_BEGIN = """\
import importlib.util, json, sys
descriptor, parent, folder, path = sys.argv[1:]
sys.path[:] = json.loads(path)
spec = importlib.util.spec_from_file_location(
    "tokenloom", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["tokenloom"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from tokenloom.runtime.media.worker import main
main(int(descriptor), int(parent))
"""


class Died(Exception):  # noqa: N818  (internal: becomes a DecoderError)
    """The worker ended by itself. status: of its process, -N for signal N."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Hung(Exception):  # noqa: N818  (the same)
    """The worker gave no answer in time."""


class WorkerProcess:
    """A worker that was started. One thread asks it; any thread may kill it.

    Its standard output goes where standard error goes, and no Ctrl-C at the terminal reaches it: it has a
    session of its own.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            given = [str(number), str(os.getpid()), str(Path(__file__).parents[2]), json.dumps(sys.path)]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BEGIN, *given],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(number,),
                start_new_session=True,
            )
        self._connection = ours
        self._block: NDArray[np.uint8] = np.empty(0, np.uint8)  # shared with the worker

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once it has ended."""
        return self._process.poll() is None

    def wait_until_up(self, seconds: float = START) -> None:
        """Return when it can be asked. Errors: Died, Hung."""
        self._receive(seconds)

    def ask(self, message: dict[str, Any], seconds: float) -> tuple[Answer, dict[str, Any] | None]:
        """Its answer, and what it says of an error. Errors: Died, Hung; it can then only be ended."""
        try:
            self._connection.settimeout(seconds)
            send(self._connection, message)
        except TimeoutError as error:
            raise Hung from error
        except OSError as error:
            raise Died(self.end()) from error
        reply, descriptor = self._receive(seconds)
        told = reply["array"]
        return Answer(reply["facts"], told and self._array(told, descriptor)), reply["error"]

    def kill(self) -> None:
        """Kill it now; who waits for its answer hears that it died."""
        self._process.kill()

    def end(self) -> int:
        """Wait a moment for the process to end by itself, else kill it; its status (-9 where unknown)."""
        try:
            return self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
        try:
            return self._process.wait(1.0)
        except subprocess.TimeoutExpired:  # stuck inside the kernel (a dead network disk): left to itself
            return -9

    def close(self) -> None:
        """Kill it, and let go of the connection."""
        self._process.kill()
        self.end()
        self._connection.close()

    def _array(self, told: dict[str, Any], descriptor: int | None) -> NDArray[Any]:
        """A copy of what lies in the memory that the worker uses again; or the memory itself."""
        if descriptor is not None:
            block = attach(descriptor, (told["block"],), np.uint8)
            if not told["kept"]:
                whole: NDArray[Any] = block.view(told["dtype"]).reshape(told["shape"])
                return whole
            self._block = block
        size = prod(told["shape"]) * np.dtype(told["dtype"]).itemsize
        part: NDArray[Any] = self._block[:size].view(told["dtype"]).reshape(told["shape"])
        return part.copy()

    def _receive(self, seconds: float) -> tuple[dict[str, Any], int | None]:
        self._connection.settimeout(seconds)
        try:
            return receive(self._connection)
        except TimeoutError as error:
            raise Hung from error
        except (EOFError, OSError) as error:
            raise Died(self.end()) from error
