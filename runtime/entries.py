"""What lies in the disk cache, for people: list it, remove it, say why a value was made again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .cache import Cache
from .disk import Entry
from .errors import GraphError
from .explain import difference
from .values import Table

_SHORT = 12  # characters of a key that is named in passing
_EARLIER = 3  # earlier values that one is compared with


def list_entries(cache: Cache) -> Table:
    """`tokenloom cache ls`: one row per value on disk, last used first."""
    entries = cache.entries()
    rows = tuple(
        (
            entry.key,
            _name(entry),
            _node(entry),
            str(entry.manifest.get("what", "?")),
            entry.bytes,
            float(entry.manifest.get("seconds", 0.0)),
        )
        for entry in entries
    )
    total = sum(entry.bytes for entry in entries)
    where = "no folder" if cache.disk is None else str(cache.disk.folder)
    return Table(("key", "node", "type", "value", "bytes", "seconds"), rows, f"{where}: {total:,} bytes")


def remove_entries(cache: Cache, names: Collection[str] = ()) -> Table:
    """`tokenloom cache rm [KEY or NODE ...]`: forget these (a key may be cut short); all when none is named.

    Errors: GraphError for a name that matches nothing.
    """
    entries = cache.entries()
    chosen = [e for e in entries if not names or any(_matches(e, name) for name in names)]
    for name in names:
        if not any(_matches(entry, name) for entry in entries):
            raise GraphError(f"cache rm: no key starts with {name!r} and no node is called so")
    for entry in chosen:
        if cache.disk is not None:
            cache.disk.remove(entry.key)
        cache.memory.held.pop(entry.key, None)
    rows = tuple((e.key, _name(e), e.bytes) for e in chosen)
    return Table(("key", "node", "bytes"), rows, f"{len(chosen)} removed")


def explain_entry(cache: Cache, name: str, *, details: bool = False) -> str:
    """`tokenloom cache explain KEY or NODE`: what sets the newest such value apart from earlier ones.

    A line per difference, as a plan gives them. details: all that the value was made of, too.
    Errors: GraphError for a name that matches nothing.
    """
    entries = cache.entries()
    number = next((i for i, entry in enumerate(entries) if _matches(entry, name)), None)
    if number is None:
        raise GraphError(f"cache explain: no key starts with {name!r} and no node is called so")
    entry = entries[number]
    same = [e for e in entries[number + 1 :] if (_name(e), _node(e)) == (_name(entry), _node(entry))]
    lines = [f"{_name(entry)} ({_node(entry)}): {entry.manifest.get('what', '?')}, key {entry.key}"]
    if not same:
        lines.append("nothing to compare it with: no earlier value of this node is on disk")
    names = {e.key: _name(e) for e in entries}
    for old in same[:_EARLIER]:
        told = list(difference(_recipe(old), _recipe(entry), _sources(entry, names)))
        lines.append(f"compared with {old.key[:_SHORT]}, used before it:")
        lines += [f"  {one}" for one in told or ["nothing that is written down differs"]]
    if len(same) > _EARLIER:
        lines.append(f"and {len(same) - _EARLIER} earlier")
    return "\n".join([*lines, *(_made_of(entry) if details else ())])


def _sources(entry: Entry, names: Mapping[str, str]) -> dict[str, list[str]]:
    """Per socket, the nodes whose values were wired to it, as far as those lie on disk."""
    out: dict[str, list[str]] = {}
    for socket, keys in _recipe(entry).get("inputs", {}).items():
        found = [names.get(str(key).partition(":")[0], "") for key in keys]
        out[socket] = [name for name in found if name]
    return out


def _made_of(entry: Entry) -> Iterator[str]:
    yield f"made of ({entry.bytes:,} bytes, {float(entry.manifest.get('seconds', 0.0)):.3f} s):"
    for part, value in _recipe(entry).items():
        if isinstance(value, Mapping):
            yield from (f"  {part}: {name} = {one}" for name, one in value.items())
        elif value not in ("", []):
            yield f"  {part}: {value}"


def _recipe(entry: Entry) -> Mapping[str, Any]:
    recipe: Mapping[str, Any] = entry.manifest.get("recipe", {})
    return recipe


def _name(entry: Entry) -> str:
    return str(entry.manifest.get("name", "?"))


def _node(entry: Entry) -> str:
    return str(_recipe(entry).get("node", "?"))


def _matches(entry: Entry, name: str) -> bool:
    return entry.key.startswith(name) or name in (entry.manifest.get("name"), _recipe(entry).get("node"))
