"""Fingerprints of checkpoints: the same bytes and recipe give the same one, in any folder.

Files up to 16 MiB are hashed whole. Of larger ones: the header, 64 blocks of 4 KiB spread evenly, the size
and the time of the last change; copying one without keeping its time therefore gives a new fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

WHOLE = 16 * 2**20  # bytes
BLOCKS, BLOCK = 64, 4096
SETTLED = 2 * 10**9  # ns; file times are coarse, so a younger file is hashed anew each time


def file_fingerprint(file: Path) -> str:
    """Fingerprint of one file; remembered while size, times and inode stay as they are."""
    try:
        s = file.stat()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    key = (str(file.resolve()), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
    if time.time_ns() - max(s.st_mtime_ns, s.st_ctime_ns) < SETTLED:
        return _hash(*key[:3])
    return _remembered(*key)


@lru_cache(maxsize=4096)
def _remembered(path: str, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    return _hash(path, size, mtime_ns)


def _hash(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        if size <= WHOLE:
            digest.update(stream.read())
            return digest.hexdigest()
        digest.update(f"{size} {mtime_ns}".encode())
        length = int.from_bytes(stream.read(8), "little")
        digest.update(stream.read(min(length, WHOLE)))
        for i in range(BLOCKS):
            stream.seek((size - BLOCK) * i // (BLOCKS - 1), os.SEEK_SET)
            digest.update(stream.read(BLOCK))
    return digest.hexdigest()


def fingerprint(files: Iterable[Path], *recipe: Any) -> str:
    """Fingerprint of files (by name and content) and of whatever else decides the loaded part."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(files, key=lambda f: f.name):
        digest.update(f"{file.name}\0{file_fingerprint(file)}\0".encode())
    digest.update(json.dumps(recipe, sort_keys=True, default=repr).encode())
    return digest.hexdigest()
