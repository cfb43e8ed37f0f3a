"""Widgets: the settings of a node, read from its keyword-only parameters; check, coerce, describe."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from .errors import WiringError, did_you_mean

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING", "__bool__": lambda self: False})()


@dataclass(frozen=True)
class Range:
    """Inclusive bounds of a numeric widget; None is open."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def miss(self) -> str:
        """What a value that is not within is: `is outside 1..576`, `is below 1`, `is above 1`."""
        if self.low is None:
            return f"is above {self.high}"
        return f"is below {self.low}" if self.high is None else f"is outside {self}"

    def __str__(self) -> str:
        return f"{'' if self.low is None else self.low}..{'' if self.high is None else self.high}"


Seed = Annotated[int, Range(0, 2**63 - 1)]  # what torch's generators take on every device


@dataclass(frozen=True)
class Widget:
    """One setting: type without None, whether None is allowed, default (MISSING: required), bounds, help."""

    name: str
    type: Any
    optional: bool
    default: Any
    bounds: Range | None
    help: str

    @classmethod
    def of(cls, name: str, annotation: Any, default: Any, help: str = "") -> Widget:
        """Read a widget from an annotation such as `Annotated[int, Range(1)] | None`."""
        base, bounds, optional = annotation, None, False
        while True:
            if get_origin(base) is Annotated:
                bounds = next((m for m in get_args(base)[1:] if isinstance(m, Range)), bounds)
                base = get_args(base)[0]
            elif get_origin(base) in (Union, types.UnionType) and type(None) in get_args(base):
                optional = True
                rest = tuple(a for a in get_args(base) if a is not type(None))
                base = rest[0] if len(rest) == 1 else Union[rest]  # noqa: UP007  (built at run time)
            else:
                break
        if not _is_widget_type(base):
            raise TypeError(
                f"{name}: {type_text(base)} is no widget type (int, float, str, bool, Path, Literal, tuple)"
            )
        return cls(name, base, optional, default, bounds, help)

    @property
    def required(self) -> bool:
        """True when the node cannot run without a value."""
        return self.default is MISSING

    @property
    def choices(self) -> tuple[Any, ...]:
        """The allowed values of a `Literal` widget, else ()."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    def check(self, where: str, value: Any) -> Any:
        """The value in the widget's own type, or a WiringError that starts with `where.name`."""
        if value is None and self.optional:
            return None
        kind = type(value)
        if kind is self.type and self.bounds is None and (kind is int or kind is str or kind is bool):
            return value
        try:
            coerced = _coerce(self.type, value)
        except (TypeError, ValueError, OverflowError):
            wanted = self.describe().replace("bool", "true or false")
            parts = get_args(self.type) if get_origin(self.type) is tuple else ()
            if parts and Ellipsis not in parts:
                wanted += f", {len(parts)} of them"
            text = (
                f"{short(value)} is not one of {', '.join(map(repr, self.choices))}"
                if self.choices
                else f"{short(value)} is {_kind(value)}, wanted {wanted}"
            )
            texts = [choice for choice in self.choices if isinstance(choice, str)]
            hint = did_you_mean(value, texts) if isinstance(value, str) else ""
            raise WiringError(f"{where}.{self.name}: {text}{hint if 'mean' in hint else ''}") from None
        if self.bounds is not None:
            for number in coerced if isinstance(coerced, tuple) else (coerced,):
                if isinstance(number, int | float) and number not in self.bounds:
                    raise WiringError(f"{where}.{self.name}: {short(number)} {self.bounds.miss()}")
        return coerced

    def describe(self) -> str:
        """`int 1..576`, `'cls' or 'received'`, `path or null`."""
        text = " or ".join(map(repr, self.choices)) if self.choices else type_text(self.type)
        bounds = "" if self.bounds is None else f" {self.bounds}"
        return f"{text}{bounds}{' or null' if self.optional else ''}"


def type_text(t: Any) -> str:
    """A type as a user would write it: `int`, `list of path`, `Tokens`, `Model[VisionTower]`."""
    if t is None:
        return "null"
    if get_origin(t) is Annotated:
        return type_text(get_args(t)[0])
    if t is Path or (isinstance(t, type) and issubclass(t, Path)):
        return "path"
    if get_origin(t) in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else type_text(a) for a in get_args(t))
    if get_origin(t) is tuple or get_origin(t) is list:
        return "list of " + " or ".join(dict.fromkeys(type_text(a) for a in get_args(t) if a is not Ellipsis))
    if get_origin(t) is Literal:
        return " or ".join(map(repr, get_args(t)))
    name = str(getattr(t, "__name__", t))
    args = get_args(t)
    return (
        f"{name}[{', '.join(map(type_text, args))}]"
        if args
        else {"NoneType": "null", "tuple": "list"}.get(name, name)
    )


def short(value: Any) -> str:
    """The value as code, at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


def _kind(value: Any) -> str:
    """`a str`, `an int`, `null`; `empty` and `not a number` for what would be of the right type."""
    if isinstance(value, str) and not value:
        return "empty"
    if isinstance(value, float) and math.isnan(value):
        return "not a number"
    return _article(type_text(type(value)))


def _article(noun: str) -> str:
    return noun if noun == "null" else ("an " if noun[0] in "aeiou" else "a ") + noun


def _is_widget_type(t: Any) -> bool:
    if t in (int, float, str, bool, Path):
        return True
    if get_origin(t) is Literal:
        return all(isinstance(a, str | int | bool) for a in get_args(t))
    if get_origin(t) is tuple:
        return all(a is Ellipsis or _is_widget_type(a) for a in get_args(t))
    return get_origin(t) in (Union, types.UnionType) and all(_is_widget_type(a) for a in get_args(t))


def _coerce(t: Any, value: Any) -> Any:
    """`value` as `t`; int to float, str to Path and list to tuple are the only conversions."""
    if get_origin(t) is Literal:
        for choice in get_args(t):
            if choice == value and type(choice) is type(value):
                return choice
        raise ValueError
    if get_origin(t) is tuple:
        return _coerce_tuple(get_args(t), value)
    if get_origin(t) in (Union, types.UnionType):
        return _coerce_union(get_args(t), value)
    if t is Path and isinstance(value, str | Path):
        if value == "":  # else it would stand for the folder one is in
            raise ValueError
        return Path(value)
    if t is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isnan(value):
            raise ValueError
        return float(value)
    if isinstance(value, t) and (t is bool or not isinstance(value, bool)):
        return value
    raise TypeError


def _coerce_tuple(args: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise TypeError
    values = tuple(value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_coerce(args[0], v) for v in values)
    if len(args) != len(values):
        raise ValueError
    return tuple(_coerce(a, v) for a, v in zip(args, values, strict=True))


def _coerce_union(args: tuple[Any, ...], value: Any) -> Any:
    for exact in (True, False):
        for a in args:
            if exact and type(value) is not a:
                continue
            try:
                return _coerce(a, value)
            except (TypeError, ValueError, OverflowError):
                continue
    raise TypeError
