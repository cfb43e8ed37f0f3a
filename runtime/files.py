"""Files: fingerprints by content, read once per process and state of the file; and writing whole files."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

MISSING_FILE = "missing"
SETTLED = 2 * 10**9  # ns; file times are coarse, so a younger file is read anew each time


class FileState(NamedTuple):
    """What a file's bytes are remembered by: a change to them changes one of these (times are in ns)."""

    path: str
    size: int
    mtime: int
    ctime: int
    inode: int


def remembered(path: Path | str, hashed: Callable[[FileState], str]) -> str:
    """`hashed` of a file, read again when size, times or inode differ from those seen last; OSError as it is.

    A file whose bytes were replaced and whose time was set back is noticed through its change time.
    """
    s = os.stat(path)
    state = FileState(os.path.realpath(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
    if time.time_ns() - max(state.mtime, state.ctime) < SETTLED:
        return hashed(state)
    return _remembered(state, hashed)


@lru_cache(maxsize=65536)
def _remembered(state: FileState, hashed: Callable[[FileState], str]) -> str:
    return hashed(state)


def file_fingerprint(path: Path | str) -> str:
    """A hash of a file's bytes; of a folder's file names and bytes; `"missing"` when nothing is there."""
    text = os.fspath(path)
    try:
        return _folder(text) if os.path.isdir(text) else remembered(text, _whole)
    except OSError:
        return MISSING_FILE


def _folder(path: str) -> str:
    digest = hashlib.blake2b(b"folder", digest_size=16)
    for root, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            full = os.path.join(root, name)
            digest.update(f"\n{os.path.relpath(full, path)}={file_fingerprint(full)}".encode())
    return digest.hexdigest()


def _whole(state: FileState) -> str:
    with open(state.path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary file beside it, sync, rename. Errors: OSError as it is."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
