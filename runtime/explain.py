"""What differs between two recipes, in words: `keep 54 -> 64`, `code of nodes.select::_top changed`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

_MOST = 2  # places in the code that are named


def difference(
    old: Mapping[str, Any], new: Mapping[str, Any], sources: Mapping[str, Collection[str]] | None = None
) -> list[str]:
    """One phrase per part of the recipe that differs. sources: the nodes that each socket is fed by."""
    return list(_phrases(old, new, sources or {}))


def _phrases(
    old: Mapping[str, Any], new: Mapping[str, Any], sources: Mapping[str, Collection[str]]
) -> Iterator[str]:
    if old.get("version") != new.get("version"):
        yield f"version {old.get('version')} -> {new.get('version')}"
    yield from _code(old.get("code", {}), new.get("code", {}))
    yield from _widgets(old.get("widgets", {}), new.get("widgets", {}))
    yield from _inputs(old.get("inputs", {}), new.get("inputs", {}), sources)
    if old.get("models") != new.get("models"):
        yield "model files changed"
    for part in ("wanted", "device", "dtype", "libraries"):
        if old.get(part) != new.get(part):
            name = "side channels" if part == "wanted" else part
            yield f"{name} {_text(old.get(part))} -> {_text(new.get(part))}"


def _inputs(
    old: Mapping[str, Any], new: Mapping[str, Any], sources: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """`input tokens changed (dominant)`: the sockets, and the nodes that feed them."""
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    if not names:
        return
    nodes = dict.fromkeys(node for name in names for node in sources.get(name, ()))
    word = "" if names == ["inputs"] else "input " if len(names) == 1 else "inputs "
    yield f"{word}{', '.join(names)} changed" + (f" ({', '.join(nodes)})" if nodes else "")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _code(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    for name in names[:_MOST]:
        verb = "is new" if name not in old else "is gone" if name not in new else "changed"
        yield f"code of {name.removeprefix('tokenloom.')} {verb}"
    if len(names) > _MOST:
        yield f"and {len(names) - _MOST} more places in the code"


def _widgets(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name, "nothing"), new.get(name, "nothing")
        if before == after:
            continue
        path, _, print_before = before.rpartition(" = ")
        path_after, _, print_after = after.rpartition(" = ")
        if path and path == path_after and print_before != print_after:
            yield f"file {os.path.basename(path)} changed"
        else:
            yield f"{name} {path or before} -> {path_after or after}"
