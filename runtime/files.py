"""Fingerprints of files and folders: by content, read once per process and state of the file."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

MISSING_FILE = "missing"


def file_fingerprint(path: Path | str) -> str:
    """A hash of a file's bytes; of a folder's file names and bytes; `"missing"` when nothing is there.

    The bytes are read again when size, modification or change time, or inode differ from those seen last: a
    file whose bytes were replaced and whose time was set back is noticed through its change time.
    """
    text = os.fspath(path)
    try:
        status = os.stat(text)
        if os.path.isdir(text):
            return _folder(text)
        return _content(
            os.path.realpath(text), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        )
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


@lru_cache(maxsize=65536)
def _content(path: str, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
