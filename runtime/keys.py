"""Cache keys: a hash of the recipe of a value, never of the value.

Node and version, code, widgets (files by their bytes), the keys of what is wired to it, the side channels
asked of it, device class, dtype and library versions. `parts` spells the same out, so that a miss can be
explained.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from .files import file_fingerprint
from .fingerprint import Code
from .needs import Need
from .statics import Statics
from .store import Unstorable, pack

FORMAT = "1"  # of keys and cache files
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pillow", "decord2", "av")


class Recipe(NamedTuple):
    """All that decides a value. inputs: `socket key key` for every fed socket; `key:output` if named."""

    statics: Statics
    code: Code
    widgets: Mapping[str, Any]
    inputs: tuple[str, ...]
    wanted: frozenset[Need]
    known: Any
    device: str
    dtype: str

    def parts(self) -> dict[str, Any]:
        """The recipe as JSON, part by part."""
        return {
            "format": FORMAT,
            "node": self.statics.type.name,
            "version": self.statics.type.version,
            "code": dict(self.code.parts),
            "widgets": {name: _canonical(value) for name, value in self.widgets.items()},
            "inputs": {name: keys for name, *keys in (text.split(" ") for text in self.inputs)},
            "wanted": sorted(need.key for need in self.wanted),
            "models": _identity(self.known),
            "device": self.device,
            "dtype": self.dtype,
            "libraries": libraries(),
        }


def recipe_key(
    statics: Statics,
    settings: str,
    inputs: tuple[str, ...],
    wanted: frozenset[Need],
    known: Any,
    device: str,
    dtype: str,
) -> str:
    """The key of a recipe, given part by part; `settings` as `settings_text` gives them."""
    needs = sorted(need.key for need in wanted) if wanted else ""
    models = "" if known is None else _identity(known)
    text = (
        f"{libraries()}\0{statics.prefix}\0{settings}\0{','.join(inputs)}\0{needs}\0{models}"
        f"\0{device}\0{dtype}"
    )
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def settings_text(widgets: Mapping[str, Any]) -> str:
    """A step's settings as they enter its key."""
    return str([(name, _canonical(value)) for name, value in widgets.items()]) if widgets else ""


@cache
def libraries() -> str:
    """The key format and the versions of the libraries that compute: `1 torch 2.13.0, ...`."""
    return f"{FORMAT} " + ", ".join(f"{name} {version}" for name, version in library_versions().items())


def library_versions() -> dict[str, str]:
    """The version of each library that computes; "absent" for one that is not installed."""
    return {name: _version(name) for name in _LIBRARIES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


class _Frozen(str):
    """A widget value that is text already."""


def frozen(widgets: Mapping[str, Any]) -> Mapping[str, Any]:
    """The widgets with what lies at their paths now: a key's parts tell the state that it was made from."""
    return {name: _Frozen(_canonical(value)) for name, value in widgets.items()}


def _canonical(value: Any) -> str:
    """A widget value as text. A path is itself (handles carry it) and the bytes that lie there."""
    if type(value) is _Frozen:
        return str(value)
    if isinstance(value, Path):
        return f"{os.path.abspath(value)} = {file_fingerprint(value)}"
    if type(value) is tuple:
        return f"({', '.join(map(_canonical, value))})"
    return repr(value)


def _identity(known: Any) -> str:
    """The fingerprints of the model and media handles in a foreseen value; "" when it holds none."""
    if isinstance(known, tuple):
        return " ".join(filter(None, map(_identity, known)))
    fingerprint = getattr(known, "fingerprint", None)
    if not isinstance(fingerprint, str):
        return ""
    kind = getattr(getattr(known, "kind", None), "__name__", type(known).__name__)
    device = str(getattr(known, "device", "")).partition(":")[0]
    return f"{kind}:{fingerprint}:{getattr(known, 'dtype', '')}:{device}"


def value_key(value: Any) -> str | None:
    """The key of a value that a run is given as a parameter: by content; None when it cannot be stored."""
    try:
        return f"value:{pack(value).checksum()}"
    except Unstorable:
        return None
