"""Values to tensors and JSON, and back, for the disk cache. Classes by registered name, never pickle."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from . import values
from .models import handle

C = TypeVar("C")

_classes: dict[str, type[Any]] = {}
_names: dict[type[Any], str] = {}
# the classes that a model handle may name; imported when a handle is read
_KINDS = {
    "VisionTower": "tower",
    "Projector": "projector",
    "LanguageModel": "language",
    "ChatFormat": "chat",
}


class Unstorable(TypeError):  # noqa: N818  (says what the value is, not what went wrong)
    """A value of a class that is not registered: it is kept in memory only."""


@dataclass(frozen=True)
class Packed:
    """A value as a JSON tree and the tensors that the tree names."""

    tree: Any
    tensors: Mapping[str, Tensor]

    def checksum(self) -> str:
        """A hash of the tree and of every tensor's name, dtype, shape and bytes."""
        digest = hashlib.blake2b(json.dumps(self.tree, sort_keys=True).encode(), digest_size=16)
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            if tensor.numel():
                flat: Any = tensor.reshape(-1).view(torch.uint8).numpy()
                digest.update(flat.data)
        return digest.hexdigest()


def storable(cls: type[C]) -> type[C]:
    """Register a frozen dataclass, NamedTuple or Enum of a plug-in, so that the disk cache can hold it."""
    is_named_tuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
    if not (dataclasses.is_dataclass(cls) or is_named_tuple or issubclass(cls, Enum)):
        raise TypeError(f"{cls.__name__} is no dataclass, NamedTuple or Enum, so it cannot be stored")
    name = f"{cls.__module__}:{cls.__qualname__}"
    _classes[name] = cls
    _names[cls] = name
    return cls


def pack(value: Any) -> Packed:
    """The value as JSON and CPU tensors; `Unstorable` when a part of it is of an unregistered class."""
    packer = _Packer()
    tree = packer.pack(value)
    return Packed(tree, packer.finish(tree))


def unpack(packed: Packed) -> Any:
    """The value again, its tensors on the devices they came from; ValueError for a tree that is none."""
    return _Unpacker(packed.tensors).unpack(packed.tree)


class _Packer:
    def __init__(self) -> None:
        self._views: dict[int, tuple[Tensor, list[dict[str, Any]]]] = {}
        self._storages: dict[tuple[str, int], list[int]] = {}

    def pack(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if isinstance(value, Tensor):
            return self._tensor(value)
        if kind in _names:
            return self._registered(value, _names[kind])
        if kind in (tuple, list, torch.Size):
            return {"$": "list" if kind is list else "tuple", "v": [self.pack(v) for v in value]}
        if isinstance(value, Mapping):
            return {"$": "map", "v": [[self.pack(k), self.pack(v)] for k, v in value.items()]}
        if isinstance(value, Path):
            return {"$": "path", "v": str(value)}
        if kind is bytes:
            return {"$": "bytes", "v": base64.b64encode(value).decode()}
        if isinstance(value, torch.dtype):
            return {"$": "dtype", "v": str(value).removeprefix("torch.")}
        if isinstance(value, type) and value.__name__ in _KINDS:
            return {"$": "kind", "v": value.__name__}
        raise Unstorable(f"{kind.__module__}.{kind.__qualname__} is not registered with tokenloom's store")

    def _registered(self, value: Any, name: str) -> Any:
        if isinstance(value, Enum):
            return {"$": "enum", "c": name, "v": value.name}
        if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        else:
            fields = value._asdict()
        return {"$": "object", "c": name, "f": {k: self.pack(v) for k, v in fields.items()}}

    def _tensor(self, tensor: Tensor) -> Any:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            raise Unstorable(f"a tensor of layout {tensor.layout} and {tensor.dtype} cannot be stored")
        node: dict[str, Any] = {"$": "tensor"}
        known = self._views.get(id(tensor))
        if known is not None:
            known[1].append(node)
            return node
        self._views[id(tensor)] = (tensor, [node])
        storage = (str(tensor.device), tensor.untyped_storage().data_ptr())
        self._storages.setdefault(storage, []).append(id(tensor))
        return node

    def finish(self, tree: Any) -> dict[str, Tensor]:
        """Name the tensors in the tree. Views that cover their memory share it again when read."""
        out: dict[str, Tensor] = {}
        for number, views in enumerate(self._storages.values()):
            held = [self._views[i] for i in views]
            storage = held[0][0].untyped_storage()
            dtypes = {tensor.dtype for tensor, _ in held}
            covered = sum(t.numel() * t.element_size() for t, _ in held)
            if len(dtypes) == 1 and len(held) > 1 and storage.nbytes() and covered >= storage.nbytes():
                base = torch.empty(0, dtype=held[0][0].dtype, device=held[0][0].device)
                out[f"{number}"] = base.set_(storage).detach().cpu()
                for tensor, nodes in held:
                    view = [tensor.storage_offset(), list(tensor.shape), list(tensor.stride())]
                    for node in nodes:
                        node.update(t=f"{number}", d=str(tensor.device), view=view)
                continue
            for i, (tensor, nodes) in enumerate(held):
                name = f"{number}.{i}" if len(held) > 1 else f"{number}"
                out[name] = tensor.detach().cpu().contiguous().clone()
                for node in nodes:
                    node.update(t=name, d=str(tensor.device))
        return out


class _Unpacker:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._moved: dict[tuple[str, str], Tensor] = {}

    def unpack(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        what = tree["$"]
        if what == "tensor":
            return self._tensor(tree)
        if what in ("tuple", "list"):
            return (tuple if what == "tuple" else list)(self.unpack(v) for v in tree["v"])
        if what == "map":
            return {self.unpack(k): self.unpack(v) for k, v in tree["v"]}
        if what == "path":
            return Path(tree["v"])
        if what == "bytes":
            return base64.b64decode(tree["v"])
        if what == "dtype":
            return _dtype(tree["v"])
        if what == "kind":
            module = import_module(f".models.{_KINDS[tree['v']]}", __package__)
            return getattr(module, tree["v"])
        cls: Any = _classes.get(tree["c"])
        if cls is None:
            raise ValueError(f"{tree['c']} is not registered with tokenloom's store")
        if what == "enum":
            return cls[tree["v"]]
        return cls(**{k: self.unpack(v) for k, v in tree["f"].items()})

    def _tensor(self, tree: dict[str, Any]) -> Tensor:
        name, device = tree["t"], tree["d"]
        if (name, device) not in self._moved:
            self._moved[name, device] = self._tensors[name].to(device)
        base = self._moved[name, device]
        if "view" in tree:
            offset, shape, stride = tree["view"]
            return base.as_strided(shape, stride, offset)
        return base


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"torch.{name} is no dtype")
    return found


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Every tensor that a value holds."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, str | int | float | bytes | Path | type | None):
            continue
        elif isinstance(one, tuple | list):
            todo.extend(one)
        elif isinstance(one, Mapping):
            todo.extend(one.values())
        elif dataclasses.is_dataclass(one):
            kind: Any = type(one)
            todo.extend([getattr(one, name) for name in _tensor_fields(kind)])


@cache
def _tensor_fields(cls: type[Any]) -> tuple[str, ...]:
    """The fields of a dataclass that may hold tensors, by their annotations."""
    return tuple(name for name, hint in _hints(cls).items() if _may_hold(hint, frozenset((cls,))))


def _hints(cls: type[Any]) -> dict[str, Any]:
    """What the fields of a dataclass are annotated with; Any where that cannot be resolved."""
    try:
        hints = get_type_hints(cls)
    except (NameError, TypeError, AttributeError):
        hints = {}
    return {f.name: hints.get(f.name, Any) for f in dataclasses.fields(cls)}


def _may_hold(hint: Any, seen: frozenset[type[Any]]) -> bool:
    """True unless the annotation rules tensors out. seen: classes that are being looked at."""
    if parts := [part for part in get_args(hint) if part is not Ellipsis]:
        return get_origin(hint) is not type and any(_may_hold(part, seen) for part in parts)
    if not isinstance(hint, type) or issubclass(hint, Tensor):
        return True
    if dataclasses.is_dataclass(hint):
        if hint in seen:
            return False
        deeper = seen | {hint}
        return bool(hint.__subclasses__()) or any(_may_hold(h, deeper) for h in _hints(hint).values())
    return not issubclass(hint, str | int | float | bytes | Path | type(None))


def bytes_of(value: Any) -> int:
    """Bytes of a value's tensors, shared memory counted once; 64 for anything small."""
    if type(value) in (int, float, bool, type(None)):
        return 64
    if isinstance(value, str | bytes):
        return 64 + len(value)
    held = {
        (str(t.device), s.data_ptr()): s.nbytes() for t in tensors_of(value) for s in [t.untyped_storage()]
    }
    return 64 + sum(held.values())


def _register_own() -> None:
    modules = [m for m in vars(values).values() if isinstance(m, ModuleType)]
    for module in (*modules, handle):
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__:
                _register_class(cls)


def _register_class(cls: type[Any]) -> None:
    if dataclasses.is_dataclass(cls) or issubclass(cls, Enum):
        storable(cast("type[Any]", cls))


_register_own()
