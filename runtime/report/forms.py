"""The form of recipes and result files, key by key: who reads a checked one need not doubt it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MOST = 1e24  # of anything that is counted or measured
Fits = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """A text."""
    return isinstance(value, str)


def _is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """A measure: finite, not below 0, and such as a machine could have."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)


def _or_null(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _anything(value: Any) -> bool:
    return True


def list_of(fits: Fits) -> Fits:
    """A list of such values."""
    return lambda value: isinstance(value, list) and all(map(fits, value))


def map_of(fits: Fits) -> Fits:
    """A mapping by name to such values."""
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def record_of(**fields: Fits) -> Fits:
    """A mapping of exactly these names."""
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == fields.keys()
        and all(fits(value[name]) for name, fits in fields.items())
    )


def _is_value(value: Any) -> bool:
    """A parameter: a scalar, or a list of them, nested as lists may be."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, list):
            todo += one
        elif one is not None and not isinstance(one, str | int | float):
            return False
    return True


def _is_table(value: Any) -> bool:
    if not record_of(columns=list_of(is_text), rows=list_of(list_of(_is_value)), title=is_text)(value):
        return False
    return all(len(row) == len(value["columns"]) for row in value["rows"])


def _is_answer(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("text"), str) and isinstance(value.get("ids"), list)
    )


OF_KIND: Mapping[str, Fits] = {"str": is_text, "Answer": _is_answer, "Table": _is_table}

RECIPE: Mapping[str, Fits] = {
    **dict.fromkeys(("title", "name", "graph", "device", "dtype", "made", "output", "lost"), is_text),
    "params": map_of(_is_value),
    "outputs": list_of(is_text),
    "until": _is_text_or_null,
    "files": list_of(record_of(at=is_text, path=is_text, fingerprint=is_text)),
    "models": map_of(list_of(is_text)),
    "nodes": map_of(record_of(version=_is_count, code=is_text, file=is_text)),
    "versions": map_of(is_text),
}

_STAGE = record_of(
    node=is_text,
    type=is_text,
    cached=_is_text_or_null,
    tokens_in=_or_null(_is_count),
    tokens_out=map_of(_is_count),
    seconds=_is_number,
    bytes=_is_number,
    peak=_is_number,
    loading=_is_number,
    flops=_or_null(_is_number),
)
_ERROR = record_of(
    type=is_text, message=is_text, notes=list_of(is_text), node=_is_text_or_null, node_type=_is_text_or_null
)
_INPUT = record_of(at=is_text, path=is_text, about=is_text, jpegs=list_of(is_text), problem=is_text)
RESULT: Mapping[str, Fits] = {
    "ok": _is_flag,
    **dict.fromkeys(("title", "device", "dtype", "drawing", "command"), is_text),
    "graph": _is_text_or_null,
    "random_weights": _is_flag,
    "seconds": _is_number,
    "outputs": map_of(_anything),
    "kinds": map_of(is_text),
    "stages": list_of(_STAGE),
    "left": list_of(is_text),
    "notes": list_of(is_text),
    "error": _or_null(_ERROR),
    "pictures": map_of(record_of(png=is_text, caption=is_text)),
    "inputs": list_of(_INPUT),
    "recipe": _or_null(map_of(_anything)),
}


def wrong_output(facts: Mapping[str, Any]) -> str:
    """The name of the first output that is not what its kind says; "" when all are."""
    for name, kind in facts["kinds"].items():
        if kind in OF_KIND and not OF_KIND[kind](facts["outputs"].get(name)):
            return str(name)
    return ""
