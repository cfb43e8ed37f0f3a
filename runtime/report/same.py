"""Whether a rerun gave what the file that it came from holds, and what it did not compute for that."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pil

from ..pictures import BROKEN
from ..plain import as_json
from ..result import Result
from ..values import Picture
from .reading import is_png, read_recipe, read_result

TIMES = ("prefill_seconds", "decode_seconds")  # of an answer: never the same


def held(path: Path) -> dict[str, Any]:
    """What a result file or a PNG holds of a run's results, by name: pictures as bytes, all else as JSON.

    Errors: GraphError as `read_recipe` has them.
    """
    if is_png(path):
        name = read_recipe(path).output
        return {name: path.read_bytes()} if name else {}
    facts = read_result(path)
    pictures = {name: _decoded(shown["png"]) for name, shown in facts["pictures"].items()}
    return {**facts["outputs"], **pictures}


def sameness(old: Mapping[str, Any], result: Result) -> Iterator[tuple[str, bool]]:
    """Per result that `held` found and the run gave: its name, and whether both are equal.

    Texts, numbers, tables and pictures are compared whole. Of tensors a file holds only the shape: they are
    left out unless that differs.
    """
    for name, value in old.items():
        if name not in result.outputs:
            continue
        new = result[name]
        if isinstance(value, bytes):
            yield name, isinstance(new, Picture) and _same_picture(value, new)
            continue
        same = _timeless(value) == _timeless(as_json(new))
        if not (same and isinstance(value, dict) and "shape" in value):
            yield name, same


def not_computed(result: Result) -> set[str]:
    """The outputs whose values were not computed in this run, but came from the cache."""
    cached = {row.id for row in result.report if row.cached}
    made = {slot: step.id for step in result.plan.steps for slot in step.outs}
    return {name for name, slot in result.plan.outputs.items() if made.get(slot) in cached}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: one for name, one in value.items() if name not in TIMES}
    return value


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _same_picture(png: bytes, made: Picture) -> bool:
    try:
        with Pil.open(io.BytesIO(png)) as file:
            old = np.asarray(file.convert("RGB"))
    except (*BROKEN, Pil.DecompressionBombError):
        return False
    return np.array_equal(old, made.pixels.cpu().numpy())
