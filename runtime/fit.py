"""Does what one socket gives fit what another wants? Nothing is ever converted."""

from __future__ import annotations

import sys
import types
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints


def bare(t: Any) -> Any:
    """The type without its `Annotated` metadata."""
    while get_origin(t) is Annotated:
        t = get_args(t)[0]
    return t


def is_union(t: Any) -> bool:
    """True for `A | B` and `Union[A, B]`."""
    return get_origin(t) in (Union, types.UnionType)


@cache
def bound_of(variable: TypeVar) -> Any:
    """What a type variable stands for when nothing decides it: its bound, any of its constraints, or Any."""
    parts = (variable.__bound__,) if variable.__bound__ is not None else variable.__constraints__
    if not parts:
        return Any
    home = vars(sys.modules[variable.__module__]) if variable.__module__ in sys.modules else {}
    named = types.SimpleNamespace(__annotations__={str(i): part for i, part in enumerate(parts)})
    return Union[tuple(get_type_hints(named, home).values())]  # noqa: UP007  (built at run time)


def fits(sender: Any, receiver: Any) -> bool:
    """True when every value of type `sender` may be given to `receiver`.

    A class fits its base classes; a union fits when all its members do, and into a union whose some member
    takes it; generic arguments must fit one by one; an unparametrised receiver takes any arguments; Any
    takes all. A type variable takes what its bound or one of its constraints takes.
    """
    sender, receiver = bare(sender), bare(receiver)
    if isinstance(receiver, TypeVar):
        receiver = bound_of(receiver)
    if isinstance(sender, TypeVar):
        sender = bound_of(sender)
    if receiver is Any or sender == receiver:
        return True
    if is_union(sender):
        return all(fits(s, receiver) for s in get_args(sender))
    if is_union(receiver):
        return any(fits(sender, r) for r in get_args(receiver))
    sender_class, receiver_class = get_origin(sender) or sender, get_origin(receiver) or receiver
    if sender_class is None:
        sender_class = type(None)
    if not (isinstance(sender_class, type) and isinstance(receiver_class, type)):
        return False
    if not issubclass(sender_class, receiver_class):
        return False
    wanted, given = get_args(receiver), get_args(sender)
    return not wanted or (len(wanted) == len(given) and all(map(fits, given, wanted)))


def holds(value: Any, receiver: Any) -> bool:
    """True when this very value may be given to `receiver` (by class; generic arguments by `kind`)."""
    receiver = bare(receiver)
    if isinstance(receiver, TypeVar):
        receiver = bound_of(receiver)
    if receiver is Any:
        return True
    if is_union(receiver):
        return any(holds(value, r) for r in get_args(receiver))
    if receiver is None or receiver is type(None):
        return value is None
    receiver_class = get_origin(receiver) or receiver
    if not (isinstance(receiver_class, type) and isinstance(value, receiver_class)):
        return False
    kind, args = getattr(value, "kind", None), get_args(receiver)
    return not (args and isinstance(kind, type)) or fits(kind, args[0])
