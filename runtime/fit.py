"""Does what one socket gives fit what another wants? Nothing is ever converted."""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin


def bare(t: Any) -> Any:
    """The type without its `Annotated` metadata."""
    while get_origin(t) is Annotated:
        t = get_args(t)[0]
    return t


def is_union(t: Any) -> bool:
    """True for `A | B` and `Union[A, B]`."""
    return get_origin(t) in (Union, types.UnionType)


def fits(sender: Any, receiver: Any) -> bool:
    """True when every value of type `sender` may be given to `receiver`.

    A class fits its base classes; a union fits when all its members do, and into a union whose some member
    takes it; generic arguments must fit one by one; an unparametrised receiver takes any arguments; Any
    takes all.
    """
    sender, receiver = bare(sender), bare(receiver)
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
