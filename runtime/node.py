"""`@node`: one typed function is an eager call, a typed graph builder and a YAML node.

Parameters before `*` are sockets, keyword-only parameters are widgets, the return annotation is the output;
a NamedTuple return gives named outputs. The docstring's first sentence and its `name: text` lines are the
tooltips.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, update_wrapper
from typing import (
    Any,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from . import registry
from .build import ParamRef, building
from .errors import WiringError, did_you_mean
from .fit import bare, fits, holds, is_union
from .generic import Found, candidates, collect, erased, join, substitute, variables
from .needs import Need, Needs, needs_of
from .widgets import MISSING, Widget, type_text

P = ParamSpec("P")
R = TypeVar("R")
Lane = Literal["cpu", "gpu", "io"]


@dataclass(frozen=True)
class Socket:
    """One input: its type without metadata, default (MISSING: must be wired), and needs.

    generic: the type with its type variables, of which `type` shows the bounds; None when it has none.
    """

    name: str
    type: Any
    default: Any
    variadic: bool
    needs: tuple[Needs, ...]
    help: str
    generic: Any = None

    @property
    def required(self) -> bool:
        """True when a graph must wire it."""
        return self.default is MISSING and not self.variadic

    @property
    def absent(self) -> Any:
        """What the function gets when nothing is wired."""
        return () if self.variadic else self.default


@dataclass(frozen=True)
class Bound:
    """The checked arguments of one call."""

    sockets: dict[str, Any]
    widgets: dict[str, Any]


class NodeType(Generic[P, R]):
    """A function with sockets, widgets and outputs read from its signature. Made by `@node`."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str,
        version: int,
        pure: bool,
        lane: Lane,
        provides: tuple[str, ...],
        adds_to: tuple[str, ...],
        batch: Callable[..., list[Any]] | None,
        foresee: Callable[..., Any] | None,
    ) -> None:
        self.fn, self.name, self.version, self.pure, self.lane = fn, name, version, pure, lane
        self.provides, self.adds_to, self.batch, self.foresee = provides, adds_to, batch, foresee
        update_wrapper(self, fn)

    @property
    def place(self) -> str:
        """`module:line` of the function, for messages."""
        code = getattr(self.fn, "__code__", None)
        return f"{self.fn.__module__}:{code.co_firstlineno}" if code else self.fn.__module__

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.fn, include_extras=True)

    def _hint(self, parameter: str) -> Any:
        if parameter not in self._hints:
            raise TypeError(
                f"node {self.name}: {parameter} has no type; write {parameter}: and what it takes"
            )
        return self._hints[parameter]

    @cached_property
    def _help(self) -> dict[str, str]:
        """`name: text` lines of the docstring; an indented line goes on with the one above."""
        found: dict[str, str] = {}
        last = ""
        for line in inspect.cleandoc(self.fn.__doc__ or "").split("\n")[1:]:
            if m := re.match(r"([a-z_][a-z0-9_]*): (.+)", line):
                last, found[m[1]] = m[1], m[2].strip()
            elif last and line.startswith(" "):
                found[last] += " " + line.strip()
            else:
                last = ""
        return found

    @cached_property
    def summary(self) -> str:
        """The docstring's first paragraph, on one line."""
        return " ".join(inspect.cleandoc(self.fn.__doc__ or "").split("\n\n")[0].split())

    @cached_property
    def details(self) -> str:
        """The paragraphs between the summary and the help of inputs and settings, each on one line."""
        paragraphs = inspect.cleandoc(self.fn.__doc__ or "").split("\n\n")[1:]
        kept = (" ".join(p.split()) for p in paragraphs if p.split(":")[0].strip() not in self._help)
        return "\n".join(kept)

    @cached_property
    def sockets(self) -> dict[str, Socket]:
        """The inputs, in order."""
        out: dict[str, Socket] = {}
        for p in inspect.signature(self.fn).parameters.values():
            if p.kind is p.KEYWORD_ONLY:
                continue
            if p.kind is p.VAR_KEYWORD:
                raise TypeError(f"node {self.name}: **{p.name} is neither a socket nor a widget")
            hint = self._hint(p.name)
            wanted = bare(hint)
            default = p.default
            if default is p.empty:  # `T | None` may stay open
                default = None if is_union(wanted) and type(None) in get_args(wanted) else MISSING
            variadic, help = p.kind is p.VAR_POSITIONAL, self._help.get(p.name, "")
            generic = wanted if variables(wanted) else None
            out[p.name] = Socket(p.name, erased(wanted), default, variadic, needs_of(hint), help, generic)
        return out

    @cached_property
    def widgets(self) -> dict[str, Widget]:
        """The settings, in order; a default that its own widget refuses is a WiringError."""
        out: dict[str, Widget] = {}
        for p in inspect.signature(self.fn).parameters.values():
            if p.kind is p.KEYWORD_ONLY:
                default = MISSING if p.default is p.empty else p.default
                widget = Widget.of(p.name, self._hint(p.name), default, self._help.get(p.name, ""))
                if not widget.required:
                    widget = replace(widget, default=widget.check(self.name, default))
                out[p.name] = widget
        return out

    @cached_property
    def output(self) -> Any:
        """The return annotation: of a generic NamedTuple its class, else with bounds for type variables."""
        t = self._returned
        return erased(t) if (named := _named_tuple(t)) is None else named

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """Output names and types, with bounds for type variables; the one unnamed output is called ""."""
        return {name: erased(t) for name, t in self._patterns.items()}

    @cached_property
    def generic(self) -> bool:
        """True when types of outputs depend on what is given to the sockets."""
        taken = {v for s in self.sockets.values() if s.generic is not None for v in variables(s.generic)}
        return any(v in taken for t in self._patterns.values() for v in variables(t))

    @cached_property
    def echoes(self) -> dict[str, tuple[str, ...]]:
        """Per output that has a socket's type variable for its type: the sockets that decide it."""
        found: dict[str, tuple[str, ...]] = {}
        for name, t in self._patterns.items():
            same = tuple(
                s.name
                for s in self.sockets.values()
                if isinstance(bare(t), TypeVar) and bare(t) in variables(s.generic)
            )
            if same:
                found[name] = same
        return found

    def resolve(self, given: Mapping[str, tuple[Any, ...]]) -> Mapping[str, Any]:
        """Output types when sockets are given these types; what does not fit its socket does not count."""
        if not self.generic:
            return self.outputs
        key = tuple(given.items())
        if key not in self._resolved:
            bound = {v: join(v, types) for v, types in self._found(given).items()}
            self._resolved[key] = {n: erased(substitute(t, bound)) for n, t in self._patterns.items()}
        return self._resolved[key]

    def conflicts(self, given: Mapping[str, tuple[Any, ...]]) -> dict[TypeVar, list[Any]]:
        """Type variables of which no single constraint takes all that is given, with what is given."""
        found = self._found(given)
        return {v: types for v, types in found.items() if v.__constraints__ and not candidates(v, types)}

    def _found(self, given: Mapping[str, tuple[Any, ...]]) -> Found:
        found: Found = {}
        for name, types in given.items():
            for t in types:
                if fits(t, self.sockets[name].type):
                    collect(t, self.sockets[name].generic, found)
        return found

    @cached_property
    def _resolved(self) -> dict[Any, Mapping[str, Any]]:
        return {}

    @cached_property
    def _returned(self) -> Any:
        if "return" not in self._hints:
            raise TypeError(
                f"node {self.name}: the return annotation is missing; it is the type of the output"
            )
        return self._hints["return"]

    @cached_property
    def _patterns(self) -> dict[str, Any]:
        """Output names and types, type variables as they are."""
        t = self._returned
        named = _named_tuple(t)
        if named is None:
            return {"": t}
        own: tuple[TypeVar, ...] = getattr(named, "__parameters__", ())
        chosen = dict(zip(own, get_args(t), strict=False))
        fields = get_type_hints(named, include_extras=True)
        return {name: substitute(field, chosen) for name, field in fields.items()}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run now; or, inside `with Graph()`, record a node and return a typed promise of the result."""
        graph = building.get()
        if graph is not None:
            return cast(R, graph.add(self, args, kwargs))
        bound = self.bind(args, kwargs)
        self.check_values(bound.sockets)
        return self.call(bound.sockets, bound.widgets)

    def call(self, sockets: Mapping[str, Any], widgets: Mapping[str, Any]) -> R:
        """Run the function on bound and checked arguments."""
        args: list[Any] = []
        for name, socket in self.sockets.items():
            if socket.variadic:
                args.extend(sockets.get(name, ()))
            else:
                args.append(sockets.get(name, socket.default))
        function: Callable[..., R] = self.fn
        return function(*args, **widgets)

    def many(self, calls: Sequence[tuple[Any, ...]], **widgets: Any) -> list[R]:
        """One result per tuple of socket values, all with the same widgets; in one pass if the node can.

        A node without a `batch` function runs the calls one after another.
        """
        bounds = [self.bind(args, dict(widgets)) for args in calls]
        for bound in bounds:
            self.check_values(bound.sockets)
        if self.batch is None or not bounds:
            return [self.call(bound.sockets, bound.widgets) for bound in bounds]
        columns = [[b.sockets.get(s.name, s.absent) for b in bounds] for s in self.sockets.values()]
        results = self.batch(*columns, **bounds[0].widgets)
        if len(results) != len(bounds):
            raise RuntimeError(f"{self.name}: batch returned {len(results)} results for {len(bounds)} calls")
        return cast("list[R]", results)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], where: str | None = None) -> Bound:
        """Sort arguments into sockets and checked widgets with defaults filled in.

        Errors: WiringError for too many, unknown, doubled or missing arguments and for bad widget values.
        """
        where = where or self.name
        sockets: dict[str, Any] = {}
        names = list(self.sockets)
        for i, value in enumerate(args):
            if i < len(names) and not self.sockets[names[i]].variadic:
                sockets[names[i]] = value
            elif names and self.sockets[names[-1]].variadic:
                sockets[names[-1]] = (*sockets.get(names[-1], ()), value)
            else:
                raise WiringError(
                    f"{where}: {len(args)} inputs were given, it has {len(names)}: {', '.join(names)}"
                )
        settings: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in self.widgets:
                settings[name] = value
            elif name not in self.sockets:
                known = [*self.sockets, *self.widgets]
                raise WiringError(
                    f"{where}: no input or setting is called {name!r}{did_you_mean(name, known)}"
                )
            elif name in sockets:
                raise WiringError(f"{where}.{name} is given twice")
            else:
                sockets[name] = tuple(value) if self.sockets[name].variadic else value
        for socket in self.sockets.values():
            if socket.required and socket.name not in sockets:
                raise WiringError(
                    f"{where}: nothing is connected to {socket.name} ({type_text(socket.type)})"
                )
        return Bound(sockets, self.check_widgets(settings, where))

    def check_widgets(self, given: Mapping[str, Any], where: str | None = None) -> dict[str, Any]:
        """All widget values, defaults filled in; graph parameters (`ParamRef`) pass through unchecked."""
        where = where or self.name
        out: dict[str, Any] = {}
        for name, widget in self.widgets.items():
            if name in given:
                value = given[name]
                out[name] = value if isinstance(value, ParamRef) else widget.check(where, value)
            elif widget.required:
                raise WiringError(f"{where}.{name} has no value; wanted {widget.describe()}")
            else:
                out[name] = widget.default
        return out

    def check_values(self, sockets: Mapping[str, Any], where: str | None = None) -> None:
        """A WiringError for the first value whose class does not fit its socket."""
        for name, value in sockets.items():
            socket = self.sockets[name]
            for one in value if socket.variadic else (value,):
                if not holds(one, socket.type):
                    wanted, got = type_text(socket.type), type_text(type(one))
                    raise WiringError(f"{where or self.name}.{name} wants {wanted}, got {got}")

    def needs(self, widgets: Mapping[str, Any]) -> dict[str, tuple[Need, ...]]:
        """The wishes of every socket that has some, for these widget values."""
        return {
            name: tuple(need for needs in socket.needs for need in needs.resolve(widgets))
            for name, socket in self.sockets.items()
            if socket.needs
        }

    def __repr__(self) -> str:
        return f"<node {self.name} ({self.place})>"


def _named_tuple(t: Any) -> type[Any] | None:
    """The NamedTuple class of a return annotation, without its generic arguments."""
    cls = get_origin(t) or t
    return cls if isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields") else None


@overload
def node(fn: Callable[P, R], /) -> NodeType[P, R]: ...
@overload
def node(
    *,
    name: str | None = None,
    version: int = 1,
    pure: bool = True,
    lane: Lane = "cpu",
    provides: tuple[str, ...] = (),
    adds_to: tuple[str, ...] = (),
    batch: Callable[..., list[Any]] | None = None,
    foresee: Callable[..., Any] | None = None,
) -> Callable[[Callable[P, R]], NodeType[P, R]]: ...
def node(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    pure: bool = True,
    lane: Lane = "cpu",
    provides: tuple[str, ...] = (),
    adds_to: tuple[str, ...] = (),
    batch: Callable[..., list[Any]] | None = None,
    foresee: Callable[..., Any] | None = None,
) -> Any:
    """Turn a typed function into a node and register it.

    version: raise it when results change for a reason the code fingerprint cannot see.
    pure: False for a node whose result is not decided by its inputs; it is never cached.
    lane: what it keeps busy: "cpu", "gpu" (whatever device its model is on) or "io".
    provides: side channels that it can compute on demand.
    adds_to: those of them of which it computes a part and takes the rest from its input: whoever made that is
        asked too, if it can.
    batch: does many calls in one pass: sockets come as lists, one entry per call, widgets as they are.
    foresee: runs while planning, before any weight is read: same widgets; sockets hold what is known of the
        inputs (a model handle, or what an upstream `foresee` returned), or None. Returns what is known of the
        output; raises a LoomError for what cannot work.
    """

    def wrap(f: Callable[..., Any]) -> NodeType[..., Any]:
        made: NodeType[..., Any] = NodeType(
            f,
            name=name or f.__name__,
            version=version,
            pure=pure,
            lane=lane,
            provides=provides,
            adds_to=adds_to,
            batch=batch,
            foresee=foresee,
        )
        registry.register(made)
        return made

    return wrap if fn is None else wrap(fn)
