"""What goes between a process and its workers: JSON, and arrays in memory that both of them see.

An array lies in anonymous shared memory, whose descriptor travels with the message. It has no name, so
whoever dies, and however, nothing is left behind; it is given back when its last reader lets go of it. Small
answers are copied out of memory that a worker uses again: fresh shared pages cost ten times what copying
the pixels does (16 frames of 640x360: 10 ms against 0.6 ms). Large ones are handed over as they are.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import struct
import tempfile
import weakref
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_HEAD = struct.Struct("!Q")  # bytes of JSON that follow
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # all pages at once, not one fault each
_CLOSED = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # a descriptor that comes is not inherited


class Answer(NamedTuple):
    """What a request gives: facts that JSON can hold, and at most one array."""

    facts: dict[str, Any]
    array: NDArray[Any] | None = None


class Block(NamedTuple):
    """Shared memory that this process made: its descriptor, and the array that lies in it."""

    descriptor: int
    array: NDArray[Any]


def new_block(shape: Sequence[int], dtype: Any = np.uint8) -> Block:
    """Memory for an array, filled with zeros. Errors: MemoryError, or OSError when no descriptor is left."""
    dtype = np.dtype(dtype)
    size = max(prod(shape) * dtype.itemsize, 1)
    descriptor = _anonymous()
    try:
        os.ftruncate(descriptor, size)
        return Block(descriptor, _array(descriptor, size, shape, dtype, 0))
    except BaseException:
        os.close(descriptor)
        raise


def attach(descriptor: int, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
    """The array in a block that another process made. Closes the descriptor; the array keeps the memory."""
    dtype = np.dtype(dtype)
    size = max(prod(shape) * dtype.itemsize, 1)
    try:
        return _array(descriptor, size, shape, dtype, _POPULATE)
    finally:
        os.close(descriptor)


def send(connection: socket.socket, message: dict[str, Any], descriptor: int | None = None) -> None:
    """Send a message; a descriptor goes with it, and stays open here. Errors: OSError when nobody listens."""
    text = json.dumps(message).encode()
    head = _HEAD.pack(len(text))
    if descriptor is None:
        connection.sendall(head + text)
        return
    sent = socket.send_fds(connection, [head], [descriptor])
    connection.sendall(head[sent:] + text)


def receive(connection: socket.socket) -> tuple[dict[str, Any], int | None]:
    """The next message, and the descriptor that came with it, the caller's to close.

    Errors: EOFError when the other side is gone, TimeoutError after the connection's timeout, per read.
    """
    try:
        head, descriptors, _, _ = socket.recv_fds(connection, _HEAD.size, 1, _CLOSED)
        descriptor = descriptors[0] if descriptors else None
        head += _exactly(connection, _HEAD.size - len(head), bool(head))
        message = json.loads(_exactly(connection, _HEAD.unpack(head)[0], True))
    except ConnectionError as error:
        raise EOFError("the other side is gone") from error
    return message, descriptor


def _exactly(connection: socket.socket, count: int, begun: bool) -> bytes:
    if not begun:
        raise EOFError("the other side is gone")
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError("the other side is gone")
        parts += part
    return bytes(parts)


def _anonymous() -> int:
    """A descriptor of memory without a name: a memfd, elsewhere than on Linux an unlinked temporary file."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tokenloom")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _array(
    descriptor: int, size: int, shape: Sequence[int], dtype: np.dtype[Any], flags: int
) -> NDArray[Any]:
    """The descriptor's memory as an array.

    By the C function: Python's own `mmap` keeps a descriptor open for every array (until 3.13), and a process
    that holds a thousand pictures would run out of them.
    """
    libc = _libc()
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = libc.mmap(None, size, protection, mmap.MAP_SHARED | flags, descriptor, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(f"{size} bytes cannot be mapped: {os.strerror(ctypes.get_errno())}")
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, libc.munmap, address, size).atexit = False
    return np.frombuffer(memoryview(memory), dtype, prod(shape)).reshape(shape)


@lru_cache(maxsize=1)
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    integer = ctypes.c_int
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, integer, integer, integer, ctypes.c_longlong)
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc
