"""What code decides a node's result: its function and every helper it reaches inside its own package.

Read from the source, so that comments, docstrings, annotations and layout do not count, and helpers that are
imported inside a function need not be imported to be counted. Other packages enter a key by version.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import ModuleSpec
from typing import Any

# they carry calls, messages and pixels; no result depends on them
_ENGINE = frozenset(
    f"tokenloom.runtime.{name}"
    for name in ("build", "context", "errors", "fit", "media.pool", "needs", "node", "registry", "widgets")
)
_SCALARS = (int, float, str, bytes, bool, type(None))


@dataclass(frozen=True)
class Code:
    """A hash of all the code that a function reaches, and of each part by name (`nodes.select::_top`).

    modules: those that it lies in, with the spec that each was loaded from; None for one not loaded yet.
    """

    digest: str
    parts: Mapping[str, str]
    modules: Mapping[str, ModuleSpec | None] = field(default_factory=dict, compare=False)

    @property
    def current(self) -> bool:
        """False once one of its modules was loaded, or reloaded, after this was read."""
        loaded = sys.modules
        return all(getattr(loaded.get(name), "__spec__", None) is spec for name, spec in self.modules.items())


@dataclass(frozen=True, eq=False)
class _Source:
    """One module's text: its top-level definitions, its imports (name -> module, attribute), all its code."""

    module: str
    package: str
    defined: Mapping[str, tuple[ast.stmt, ...]]
    imported: Mapping[str, tuple[str, str]]
    compiled: frozenset[types.CodeType]


_memo: dict[types.FunctionType, tuple[types.CodeType, Code]] = {}


def fingerprint(fn: Callable[..., Any]) -> Code:
    """The code of `fn` and of every function, class and constant it reaches inside its own package.

    Memoised per function: code that is edited while the process runs counts once its module is reloaded, be
    it the function's own or a helper's. What is put into a module by hand (`helpers.scale = other`) does not
    count. A function whose source is not what runs (edited since, or typed into a prompt) counts by its
    bytecode.
    """
    fn = inspect.unwrap(fn)
    if not isinstance(fn, types.FunctionType):
        raise TypeError(f"{fn!r} is not a Python function")
    known = _memo.get(fn)
    if known is None or known[0] is not fn.__code__ or not known[1].current:
        known = _memo[fn] = (fn.__code__, _walk(fn))
    return known[1]


def _walk(fn: types.FunctionType) -> Code:
    own = {fn.__module__.split(".")[0], "tokenloom"}
    parts: dict[str, str] = {}
    root = _read(fn.__module__)
    todo: list[tuple[str, str]] = []
    if root is None or fn.__code__ not in root.compiled:
        parts[f"{fn.__module__}::{fn.__qualname__}"] = _bytecode(fn.__code__)
        if root is not None:
            todo += [(fn.__module__, name) for name in _code_names(fn.__code__)]
    else:
        todo.append((fn.__module__, fn.__qualname__.split(".")[0]))
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        todo += _enclosed(fn, name, cell, parts)
    seen: set[tuple[str, str]] = set()
    while todo:
        item = todo.pop()
        if item in seen or item[0].split(".")[0] not in own or item[0] in _ENGINE:
            continue
        seen.add(item)
        todo += _visit(*item, parts)
    lines = "\n".join(f"{name}={parts[name]}" for name in sorted(parts))
    modules = dict.fromkeys([fn.__module__, *(module for module, _ in seen)])
    return Code(_digest(lines), parts, {name: _spec(name) for name in modules})


def _spec(module: str) -> ModuleSpec | None:
    """What a module was loaded from: another object after every reload."""
    return getattr(sys.modules.get(module), "__spec__", None)


def _enclosed(
    fn: types.FunctionType, name: str, cell: types.CellType, parts: dict[str, str]
) -> list[tuple[str, str]]:
    """A variable of the enclosing function: plain values count as they are, functions by their code."""
    try:
        value = cell.cell_contents
    except ValueError:
        return []
    if isinstance(value, (*_SCALARS, tuple)):
        parts[f"{fn.__module__}::{fn.__qualname__}({name})"] = repr(value)
    value = inspect.unwrap(value) if callable(value) else value
    if isinstance(value, types.FunctionType):
        parts[f"{fn.__module__}::{fn.__qualname__}({name})"] = _bytecode(value.__code__)
        return [(value.__module__, n) for n in _code_names(value.__code__)]
    return []


def _visit(module: str, name: str, parts: dict[str, str]) -> list[tuple[str, str]]:
    """Add the definition of `module.name` to `parts`; what it refers to comes back."""
    source = _read(module)
    if source is None:
        return []
    if name not in source.defined:
        return [source.imported[name]] if name in source.imported else []
    statements = source.defined[name]
    label = f"{module}::{name}"
    running = _running(module, name)
    if any(code not in source.compiled for code in running):
        parts[label] = _digest("\n".join(map(_bytecode, running)))
        return [(module, n) for code in running for n in _code_names(code)]
    live = getattr(sys.modules.get(module), name, None)
    if isinstance(statements[-1], ast.Assign | ast.AnnAssign | ast.AugAssign) and type(live) in _SCALARS:
        parts[label] = repr(live)
        return []
    parts[label], references = _definition(source, name)
    return references


@lru_cache(maxsize=4096)
def _definition(source: _Source, name: str) -> tuple[str, list[tuple[str, str]]]:
    """The hash of one top-level definition, and what it refers to."""
    statements = source.defined[name]
    found = dict.fromkeys(item for s in statements for item in _references(s, source))
    return _digest("\n".join(map(_dump, statements))), list(found)


def _running(module: str, name: str) -> list[types.CodeType]:
    """The code of `module.name`, if that is a loaded function or class that was written there."""
    live = getattr(sys.modules.get(module), name, None)
    live = inspect.unwrap(live) if callable(live) else None
    if getattr(live, "__module__", None) != module or getattr(live, "__qualname__", None) != name:
        return []
    if isinstance(live, types.FunctionType):
        return [live.__code__]
    if not isinstance(live, type):
        return []
    methods = [getattr(m, "fget", getattr(m, "func", getattr(m, "__func__", m))) for m in vars(live).values()]
    written = [m for m in map(_unwrapped, methods) if isinstance(m, types.FunctionType)]
    # not what dataclass, NamedTuple and Enum put into a class
    return [m.__code__ for m in written if m.__module__ == module and m.__code__.co_filename[0] != "<"]


def _unwrapped(value: Any) -> Any:
    return inspect.unwrap(value) if callable(value) else value


def _references(statement: ast.stmt, source: _Source) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a definition mentions: names, `module.attr` chains, inner imports."""
    inner = dict(_imports(statement, source.package))
    for n in _walk_without_metadata(statement):
        if isinstance(n, ast.Name):
            if n.id in inner:
                yield inner[n.id]
            elif n.id in source.defined or n.id in source.imported:
                yield (source.module, n.id)
        elif isinstance(n, ast.Attribute) and (chain := _chain(n)):
            target = inner.get(chain[0]) or source.imported.get(chain[0])
            if target is not None:
                yield from _through_modules(target, chain[1:])


def _through_modules(target: tuple[str, str], attributes: list[str]) -> Iterator[tuple[str, str]]:
    """Follow `a.b.c` from an imported module to the first name that is no module."""
    module, name = target
    for attribute in ([name] if name else []) + attributes:
        deeper = f"{module}.{attribute}"
        if _file_of(deeper) is None:
            yield (module, attribute)
            return
        module = deeper


def _chain(n: ast.Attribute) -> list[str]:
    """["a", "b", "c"] for `a.b.c`; [] when it does not start with a name."""
    names: list[str] = []
    value: ast.expr = n
    while isinstance(value, ast.Attribute):
        names.append(value.attr)
        value = value.value
    return [value.id, *reversed(names)] if isinstance(value, ast.Name) else []


def _walk_without_metadata(root: ast.AST) -> Iterator[ast.AST]:
    """Every syntax node but decorators named `node` and the metadata of `Annotated[...]`."""
    todo: list[ast.AST] = [root]
    while todo:
        n = todo.pop()
        yield n
        if isinstance(n, ast.Subscript) and _last_name(n.value) == "Annotated":
            todo.append(n.slice.elts[0] if isinstance(n.slice, ast.Tuple) else n.slice)
            continue
        skipped = n.decorator_list if isinstance(n, ast.FunctionDef) else []
        skipped = [d for d in skipped if _last_name(d) in ("node", "overload")]
        todo += [child for child in ast.iter_child_nodes(n) if child not in skipped]


def _last_name(n: ast.AST) -> str:
    n = n.func if isinstance(n, ast.Call) else n
    return n.attr if isinstance(n, ast.Attribute) else n.id if isinstance(n, ast.Name) else ""


def _dump(n: object) -> str:
    """A definition as text, without docstrings, comments, annotations of functions, layout and `@node`."""
    if isinstance(n, list):
        return f"[{','.join(map(_dump, n))}]"
    if not isinstance(n, ast.AST):
        return repr(n)
    fields = {
        name: getattr(n, name, None) for name in n._fields if name not in ("ctx", "type_comment", "kind")
    }
    if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        fields["body"] = _undocumented(n.body)
        fields["decorator_list"] = [d for d in n.decorator_list if _last_name(d) != "node"]
        fields.pop("returns", None)
    elif isinstance(n, ast.arg):
        fields.pop("annotation")
    return f"{type(n).__name__}({','.join(_dump(v) for v in fields.values() if v is not None)})"


def _undocumented(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:] if isinstance(first.value.value, str) else body
    return body


def _imports(root: ast.AST, package: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """name -> (module, attribute) of every import statement below `root`."""
    for n in ast.walk(root):
        if isinstance(n, ast.ImportFrom):
            base = n.module or ""
            if n.level:
                kept = package.split(".")[: len(package.split(".")) - n.level + 1]
                base = ".".join([*kept, *([n.module] if n.module else [])])
            for alias in n.names:
                yield alias.asname or alias.name, (base, alias.name)
        elif isinstance(n, ast.Import):
            for alias in n.names:
                name = alias.asname or alias.name.split(".")[0]
                yield name, (alias.name if alias.asname else name, "")


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those inside `if`, `try` and `with` included."""
    todo = list(reversed(body))
    while todo:
        statement = todo.pop()
        yield statement
        for block in ("finalbody", "orelse", "body"):
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                todo += reversed(getattr(statement, block, []))
        for handler in getattr(statement, "handlers", []):
            todo += reversed(handler.body)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))


def _read(module: str) -> _Source | None:
    """The source of a module, loaded or not; None for built-in modules and prompts."""
    file = _file_of(module)
    if file is None:
        return None
    try:
        status = os.stat(file)
    except OSError:
        return None
    return _parse(module, file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=512)
def _parse(module: str, file: str, mtime_ns: int, size: int) -> _Source | None:
    try:
        with open(file, "rb") as f:
            text = f.read()
        tree = ast.parse(text)
        compiled = frozenset(_codes(compile(text, file, "exec", dont_inherit=True)))
    except (OSError, SyntaxError, ValueError):
        return None
    package = module if os.path.basename(file) == "__init__.py" else module.rpartition(".")[0]
    defined: dict[str, tuple[ast.stmt, ...]] = {}
    imported: dict[str, tuple[str, str]] = {}
    for statement in _top_level(tree.body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imported.update(_imports(statement, package))
        for name in _bound(statement):
            defined[name] = (*defined.get(name, ()), statement)
    return _Source(module, package, defined, imported, compiled)


def _file_of(module: str) -> str | None:
    """The Python file of a module, without importing it."""
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if loaded is None and module.rpartition(".")[0] in ("", *sys.modules):
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            spec = None
        file = spec.origin if spec is not None else None
    return file if file is not None and file.endswith(".py") else None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    todo = [code]
    while todo:
        code = todo.pop()
        yield code
        todo += [c for c in code.co_consts if isinstance(c, types.CodeType)]


def _code_names(code: types.CodeType) -> set[str]:
    return {name for c in _codes(code) for name in c.co_names}


def _bytecode(code: types.CodeType) -> str:
    """A hash of compiled code without its docstring, file and line numbers."""
    text = [
        f"{c.co_code.hex()} {c.co_names} {c.co_varnames} "
        f"{[k for k in c.co_consts[1:] if not isinstance(k, types.CodeType)]!r}"
        for c in _codes(code)
    ]
    return _digest("\n".join(text))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
