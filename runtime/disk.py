"""The disk tier: `<key>.safetensors` holds a value, `<key>.json` beside it says what it is and from what.

A value's file is complete in itself (tensors, tree, checksum and its own key), written to a temporary file,
synced and renamed; so a reader in another process sees a whole file or none. The JSON is for people and
`explain`.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from .files import write_whole
from .store import Packed, unpack

_STALE = 3600.0  # seconds after which a temporary file belongs to nobody


class CacheWarning(UserWarning):
    """The cache could not be read or written; the run goes on without."""


@dataclass(frozen=True)
class Entry:
    """One cached value on disk: its key, bytes, when it was last used (seconds since 1970), its manifest."""

    key: str
    bytes: int
    used: float
    manifest: Mapping[str, Any]


class Disk:
    """Values by key in one folder, shared by any number of processes.

    budget: bytes; the entries not used for longest go when it is exceeded.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.budget = folder, budget
        self._warned = False
        self._written = 0

    def path(self, key: str) -> Path:
        """Where the value of `key` lies, if it does."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """True when a file is there; whether it is whole is seen when it is read."""
        return os.path.exists(f"{self.folder}/{key[:2]}/{key}.safetensors")

    def read(self, key: str) -> tuple[Any, float] | None:
        """The value and the seconds that it took to compute; None, with a warning, for a damaged file."""
        path = self.path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"cannot be read: {error.strerror or error}")
            return None
        try:
            value, seconds = _decode(data, key)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            warnings.warn(
                f"cache file {path} is damaged ({error}); computed again", CacheWarning, stacklevel=2
            )
            self.remove(key)
            return None
        with suppress(OSError):  # a read-only cache still serves
            os.utime(path)
        return value, seconds

    def write(self, key: str, packed: Packed, manifest: Mapping[str, Any]) -> bool:
        """Put a value down; False, with one warning per cache, when the folder does not take it."""
        seconds = str(manifest.get("seconds", 0.0))
        meta = {
            "key": key,
            "tree": json.dumps(packed.tree),
            "checksum": packed.checksum(),
            "seconds": seconds,
        }
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = save(dict(packed.tensors), metadata=meta)
            write_whole(path, data)
            write_whole(path.with_suffix(".json"), json.dumps(manifest, indent=1).encode())
        except OSError as error:
            self._warn(f"cannot be written: {error.strerror or error}")
            return False
        self._written += len(data)
        return True

    def remove(self, key: str) -> None:
        """Forget one value."""
        path = self.path(key)
        for file in (path, path.with_suffix(".json")):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                self._warn(f"cannot be written: {error.strerror or error}")

    def entries(self) -> list[Entry]:
        """Everything in the folder, last used first."""
        found: list[Entry] = []
        for path in self._files(".safetensors"):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append(Entry(path.stem, status.st_size, status.st_mtime, _manifest(path)))
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def settle(self) -> None:
        """After writing: drop the oldest beyond the budget, and what killed writers left."""
        if not self._written:
            return
        self._written = 0
        now = time.time()
        for path in self._files(".tmp"):
            try:
                if now - path.stat().st_mtime > _STALE:
                    path.unlink(missing_ok=True)
            except OSError:
                continue
        sizes: list[tuple[float, int, str]] = []
        for path in self._files(".safetensors"):
            try:
                status = path.stat()
                sizes.append((status.st_mtime, status.st_size, path.stem))
            except OSError:
                continue
        total = sum(size for _, size, _ in sizes)
        for _, size, key in sorted(sizes):
            if total <= self.budget:
                break
            self.remove(key)
            total -= size

    def _files(self, suffix: str) -> Iterator[Path]:
        try:
            yield from sorted(self.folder.glob(f"??/*{suffix}"))
        except OSError as error:
            self._warn(f"cannot be read: {error.strerror or error}")

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            text = f"cache folder {self.folder} {problem}; the run goes on without it"
            warnings.warn(text, CacheWarning, stacklevel=3)


def _decode(data: bytes, key: str) -> tuple[Any, float]:
    size = int.from_bytes(data[:8], "little")
    meta = json.loads(data[8 : 8 + size])["__metadata__"]
    if meta["key"] != key:  # a file that was copied or renamed
        raise ValueError(f"it holds the value of key {meta['key']}")
    packed = Packed(json.loads(meta["tree"]), load(data))
    if packed.checksum() != meta["checksum"]:
        raise ValueError("checksum differs")
    return unpack(packed), float(meta["seconds"])


def _manifest(path: Path) -> Mapping[str, Any]:
    """What the JSON beside a value says; nothing, when it is damaged."""
    try:
        found = json.loads(path.with_suffix(".json").read_bytes())
        recipe, seconds = found.get("recipe", {}), found.get("seconds", 0.0)
        parts = [recipe.get(part, {}) for part in ("code", "widgets", "inputs")]
        sound = isinstance(seconds, int | float) and all(isinstance(part, dict) for part in parts)
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return found if sound else {}
