"""One copy of each model in the process: handles with equal fingerprints share it, in whatever graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import Any

from .handle import Model

Loader = Callable[[Model[Any]], Any]
Key = tuple[str, str, str, str]
_loaders: dict[str, Loader] = {}


def loader(name: str) -> Callable[[Loader], Loader]:
    """Register the function that makes the model of handles with this `loader` name."""

    def add(function: Loader) -> Loader:
        _loaders[name] = function
        return function

    return add


@dataclass(frozen=True)
class Resident:
    """A model that is in memory: its handle, and the bytes of its parameters and buffers."""

    handle: Model[Any]
    bytes: int


class ModelPool:
    """Models by (loader, fingerprint, dtype, device). Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[Key, tuple[Model[Any], Future[Any]]] = {}

    def use(self, handle: Model[Any]) -> Any:
        """The model of `handle`; loaded on first use, by one thread while others wait for it."""
        key = _key(handle)
        with self._lock:
            found = self._models.get(key)
            future: Future[Any] = Future()
            if found is None:
                self._models[key] = (handle, future)
        if found is not None:
            return found[1].result()
        begin = perf_counter()
        try:
            model = _find(handle.loader)(handle)
        except BaseException as error:
            with self._lock:
                self._models.pop(key, None)
            future.set_exception(error)
            raise
        future.set_result(model)
        _spent.seconds = loading_seconds() + perf_counter() - begin
        return model

    def resident(self) -> list[Resident]:
        """What is in memory now, in the order it was loaded."""
        with self._lock:
            entries = list(self._models.values())
        return [Resident(h, _bytes(f.result())) for h, f in entries if f.done() and f.exception() is None]

    def release(self, handle: Model[Any] | None = None) -> None:
        """Forget one model, or all; its memory goes when the last user lets go of it."""
        with self._lock:
            if handle is None:
                self._models.clear()
            else:
                self._models.pop(_key(handle), None)


_pool = ModelPool()
_spent = threading.local()


def pool() -> ModelPool:
    """The pool of this process."""
    return _pool


def loading_seconds() -> float:
    """Seconds that this thread has spent on loading models so far: no stage's own work."""
    seconds: float = getattr(_spent, "seconds", 0.0)
    return seconds


def _key(handle: Model[Any]) -> Key:
    return (handle.loader, handle.fingerprint, handle.dtype, handle.device)


def _find(name: str) -> Loader:
    if name not in _loaders:
        import_module(".loaders", __package__)
    if name not in _loaders:
        raise LookupError(f"no loader is called {name!r}; known: {', '.join(sorted(_loaders))}")
    return _loaders[name]


def _bytes(model: Any) -> int:
    module = getattr(model, "module", None)
    if module is None:
        return 0
    unique = {t.data_ptr(): t.nbytes for t in (*module.parameters(), *module.buffers())}
    return sum(unique.values())
