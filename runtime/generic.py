"""Type variables of nodes: what they are bound to by what is wired in, and what then comes out.

A variable takes what fits its bound or constraints. When several sockets share one, it is the nearest common
base of what they are given; when nothing is given, its bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from .fit import bare, bound_of, fits, is_union

Found = dict[TypeVar, list[Any]]


def variables(t: Any) -> tuple[TypeVar, ...]:
    """The type variables in a type, each once; none in a generic class without arguments."""
    if isinstance(t, TypeVar):
        return (t,)
    return tuple(v for v in getattr(t, "__parameters__", ()) if isinstance(v, TypeVar)) if get_args(t) else ()


def substitute(t: Any, by: Mapping[TypeVar, Any]) -> Any:
    """The type with its variables replaced; those that are not in `by` stay."""
    if isinstance(t, TypeVar):
        return by.get(t, t)
    found = variables(t)
    return t[tuple(by.get(v, v) for v in found)] if found else t


def erased(t: Any) -> Any:
    """The type with every variable replaced by its bound."""
    return substitute(t, {v: bound_of(v) for v in variables(t)})


def collect(sender: Any, receiver: Any, found: Found) -> None:
    """Add to `found` what the variables of `receiver` must take when it is given a `sender` that fits it."""
    sender, receiver = bare(sender), bare(receiver)
    if isinstance(receiver, TypeVar):
        found.setdefault(receiver, []).append(sender)
    elif not variables(receiver):
        return
    elif is_union(receiver):
        plain = [member for member in get_args(receiver) if not variables(member)]
        for one in _members(sender):
            if not any(fits(one, member) for member in plain):
                for member in get_args(receiver):
                    if variables(member) and fits(one, member):
                        collect(one, member, found)
    else:
        for one in _members(sender):
            for given, wanted in zip(get_args(one), get_args(receiver), strict=False):
                collect(given, wanted, found)


def _members(t: Any) -> tuple[Any, ...]:
    return get_args(t) if is_union(t) else (t,)


def candidates(variable: TypeVar, given: Iterable[Any]) -> list[Any]:
    """The constraints of the variable that take everything given."""
    given = list(given)
    return [c for c in _members(bound_of(variable)) if all(fits(t, c) for t in given)]


def join(variable: TypeVar, given: Sequence[Any]) -> Any:
    """What the variable is: the narrowest constraint, else the nearest common base, within its bound."""
    bound = bound_of(variable)
    if not given:
        return bound
    if variable.__constraints__:
        fitting = candidates(variable, given)
        return next((c for c in fitting if all(fits(c, other) for other in fitting)), bound)
    distinct = list(dict.fromkeys(type(None) if t is None else t for t in given))
    for t in distinct:
        if all(fits(other, t) for other in distinct):
            return t
    if any(map(is_union, distinct)):
        return Union[tuple(distinct)]  # noqa: UP007  (built at run time)
    classes = [get_origin(t) or t for t in distinct]
    if all(isinstance(c, type) for c in classes):
        for base in classes[0].__mro__:
            if base is not Generic and all(issubclass(c, base) for c in classes) and fits(base, bound):
                return base
    return bound


def type_of(value: Any) -> Any:
    """The type of a value, with the generic argument that its `kind` tells."""
    kind: Any = getattr(value, "kind", None)
    cls: Any = type(value)
    return cls[kind] if isinstance(kind, type) and hasattr(cls, "__parameters__") else cls
