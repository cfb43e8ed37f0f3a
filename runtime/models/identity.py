"""Fingerprints of checkpoints: the same bytes and recipe give the same one, in any folder.

Files up to 16 MiB are hashed whole. Of larger ones: the header, 64 blocks of 4 KiB spread evenly, the size
and the time of the last change; copying one without keeping its time therefore gives a new fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import FileState, remembered

WHOLE = 16 * 2**20  # bytes
BLOCKS, BLOCK = 64, 4096


def weights_fingerprint(file: Path) -> str:
    """Fingerprint of one file of a checkpoint; remembered while size, times and inode stay as they are."""
    try:
        return remembered(file, _sampled)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error


def _sampled(state: FileState) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(state.path, "rb") as stream:
        if state.size <= WHOLE:
            digest.update(stream.read())
            return digest.hexdigest()
        digest.update(f"{state.size} {state.mtime}".encode())
        length = int.from_bytes(stream.read(8), "little")
        digest.update(stream.read(min(length, WHOLE)))
        for i in range(BLOCKS):
            stream.seek((state.size - BLOCK) * i // (BLOCKS - 1), os.SEEK_SET)
            digest.update(stream.read(BLOCK))
    return digest.hexdigest()


def fingerprint(files: Iterable[Path], *recipe: Any) -> str:
    """Fingerprint of files (by name and content) and of whatever else decides the loaded part."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(files, key=lambda f: f.name):
        digest.update(f"{file.name}\0{weights_fingerprint(file)}\0".encode())
    digest.update(json.dumps(recipe, sort_keys=True, default=repr).encode())
    return digest.hexdigest()
