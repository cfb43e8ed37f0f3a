"""Values of earlier runs by key: a memory tier with a byte budget before a disk tier.

A value that comes from the cache is the very object that was put in, never a copy: values are frozen, and no
node may write into the tensors of its inputs.

Environment: TOKENLOOM_CACHE names the folder (default: the platform's cache folder for users).
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Collection, Mapping
from functools import cache as once
from pathlib import Path
from typing import Any, Literal

from .disk import CacheWarning as CacheWarning
from .disk import Disk, Entry
from .explain import difference
from .keys import Recipe
from .machine import machine_bytes
from .recipes import Recipes
from .store import Unstorable, bytes_of, pack

SMALL = 1 << 20  # bytes; anything smaller goes to disk
SLOW = 0.05  # seconds; anything slower goes to disk
MEMORY = 4 << 30  # bytes; a machine with little memory gives a quarter of it
DISK = 20 << 30


class Memory:
    """Values by key, up to `budget` bytes; what saves the fewest seconds per byte goes first."""

    def __init__(self, budget: int) -> None:
        self.budget, self.bytes = budget, 0
        self.held: dict[str, tuple[Any, int, float]] = {}

    def put(self, key: str, value: Any, size: int, seconds: float) -> None:
        """Hold a value; one that is larger than the whole budget is not held."""
        old = self.held.get(key)
        if old is not None:
            self.bytes -= old[1]
        elif size > self.budget:
            return
        self.held[key] = (value, size, seconds)
        self.bytes += size
        if self.bytes > self.budget:
            self._shrink()

    def _shrink(self) -> None:
        """Down to nine tenths of the budget, so that the next values do not each sort everything."""
        cheapest = sorted(self.held, key=lambda key: self.held[key][2] / self.held[key][1])
        for key in cheapest:
            if self.bytes <= self.budget * 9 // 10:
                break
            self.bytes -= self.held.pop(key)[1]

    def clear(self) -> None:
        """Forget everything."""
        self.held.clear()
        self.bytes = 0


class Cache:
    """Memory in front of disk. folder None: memory only. memory, disk: budgets in bytes."""

    def __init__(self, folder: Path | str | None, *, memory: int = MEMORY, disk: int = DISK) -> None:
        self.memory = Memory(memory)
        self.disk = None if folder is None else Disk(Path(folder), disk)
        self._manifests: dict[tuple[str, str], Mapping[str, Any]] | None = None
        self._runs: deque[Recipes] = deque(maxlen=8)  # the recipes of the latest runs

    def where(self, key: str) -> Literal["memory", "disk"] | None:
        """The tier that holds a value for this key; a file is not opened for it."""
        if key in self.memory.held:
            return "memory"
        return "disk" if self.disk is not None and self.disk.has(key) else None

    def get(self, key: str, default: Any = None) -> Any:
        """The value, from memory or from disk; `default` when there is none, or its file is damaged."""
        held = self.memory.held.get(key)
        if held is not None:
            return held[0]
        found = self.disk.read(key) if self.disk is not None else None
        if found is None:
            return default
        value, seconds = found
        self.memory.put(key, value, bytes_of(value), seconds)
        return value

    def lasting(self, size: int, seconds: float) -> bool:
        """True for a value that goes to disk: a small one, or one that took long."""
        return self.disk is not None and (size < SMALL or seconds > SLOW)

    def save(self, key: str, value: Any, *, seconds: float, name: str, recipe: Recipe) -> bool:
        """Put a value on disk; False when it is of a class that is not stored, or the folder refuses."""
        if self.disk is None:
            return False
        try:
            packed = pack(value)
        except Unstorable:
            return False
        manifest = {
            "name": name,
            "bytes": bytes_of(value),
            "seconds": seconds,
            "what": type(value).__name__,
            "recipe": recipe.parts(),
        }
        return self.disk.write(key, packed, manifest)

    def settle(self, recipes: Recipes) -> None:
        """Called after a run: remember its recipes for `explain`, keep the disk tier within its budget."""
        self._runs.append(recipes)
        self._manifests = None
        if self.disk is not None:
            self.disk.settle()

    def explain(
        self, name: str, key: str, recipe: Recipe, sources: Mapping[str, Collection[str]] | None = None
    ) -> str:
        """Why `key` is not there: what differs from the last time this node was cached.

        sources: per socket the nodes that are wired to it, to be named.
        """
        if self.where(key) is not None:
            return "cached"
        node, parts = recipe.statics.type.name, recipe.parts()
        for run in reversed(self._runs):
            number = run.number(name)
            if number is not None and run[number].statics.type.name == node:
                return "; ".join(difference(run[number].parts(), parts, sources)) or "dropped from the cache"
        old = self._on_disk().get((name, node))
        if old is None:
            return "never cached"
        return "; ".join(difference(old, parts, sources)) or "dropped from the cache"

    def _on_disk(self) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """The newest recipe on disk of every node, read once until the next run."""
        if self._manifests is None:
            self._manifests = {}
            for entry in self.entries():
                recipe: Mapping[str, Any] = entry.manifest.get("recipe", {})
                name = (str(entry.manifest.get("name")), str(recipe.get("node")))
                self._manifests.setdefault(name, recipe)
        return self._manifests

    def entries(self) -> list[Entry]:
        """What lies on disk, last used first."""
        return [] if self.disk is None else self.disk.entries()


def default_folder() -> Path:
    """TOKENLOOM_CACHE, or `tokenloom` in the user's cache folder of the platform."""
    if named := os.environ.get("TOKENLOOM_CACHE"):
        return Path(os.path.expanduser(named))
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "tokenloom"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "tokenloom" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "tokenloom"


def default_cache() -> Cache:
    """The cache that runs use when none is given: one per folder and process."""
    return _cache_at(default_folder())


@once
def _cache_at(folder: Path) -> Cache:
    return Cache(folder, memory=min(MEMORY, machine_bytes() // 4))


__all__ = ["Cache", "CacheWarning", "Memory", "default_cache", "default_folder"]
