"""A worker: a small process (no torch) that answers requests about media files, one after another.

It ends when the process that started it does, killed or not: the kernel kills it (Linux), and a thread that
sees the connection break ends it (everywhere, unless a decoder holds the interpreter at that time).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from .desk import Desk
from .errors import as_answer
from .wire import Answer, receive, send

IDLE = 2.0  # seconds without a request after which the open clip is let go
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main(descriptor: int, parent: int) -> None:
    """Answer what comes through the socket `descriptor` until the process `parent` is gone."""
    connection = socket.socket(fileno=descriptor)
    _end_with(parent, connection)
    desk = Desk()
    try:
        send(connection, {"ready": os.getpid()})
        while True:
            if not select.select([connection], [], [], IDLE)[0]:
                desk.close()
                select.select([connection], [], [])
            _reply(connection, desk, receive(connection)[0])
    except (EOFError, ConnectionError):
        return


def _reply(connection: socket.socket, desk: Desk, message: dict[str, Any]) -> None:
    try:
        answer, error = _answer(message, desk), None
    except Exception as caught:
        desk.close()  # its decoder may be in any state
        answer, error = as_answer(caught)
    reply: dict[str, Any] = {"facts": answer.facts, "error": error, "array": None}
    descriptor = None
    if answer.array is not None:
        reply["array"], descriptor = desk.give(answer.array)
    send(connection, reply, descriptor)
    desk.clear()


def _answer(message: dict[str, Any], desk: Desk) -> Answer:
    if message["folder"] is not None and message["folder"] != os.getcwd():
        os.chdir(message["folder"])
    packed = message["request"]
    kind = getattr(import_module(packed["module"]), packed["name"])
    answer: Answer = kind(**packed["fields"]).answer(Path(message["path"]), desk)
    return answer


def _end_with(parent: int, connection: socket.socket) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(0)
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()


def _watch(connection: socket.socket) -> None:
    hang_up = select.poll()
    hang_up.register(connection, 0)  # nothing but the hang-up, which cannot be masked
    hang_up.poll()
    os._exit(0)
