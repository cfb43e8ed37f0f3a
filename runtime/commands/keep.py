"""Commands on files: `tokenloom cache ls|rm|explain` and `tokenloom convert`."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from ..cache import default_cache
from ..entries import explain_entry, list_entries, remove_entries
from ..errors import GraphError
from .show import seconds_text, show_table, size_text


def cache_ls() -> None:
    """Print one row per value on disk, last used first."""
    table = list_entries(default_cache())
    rows = [
        (
            str(key),
            str(node),
            str(kind),
            str(value),
            size_text(float(size or 0)),
            seconds_text(float(spent or 0)),
        )
        for key, node, kind, value, size, spent in table.rows
    ]
    show_table(table.columns, rows, right=("bytes", "seconds"), title=table.title)


def cache_rm(names: Sequence[str], everything: bool) -> None:
    """Forget the values of these keys or nodes, or everything."""
    if everything == bool(names):
        raise GraphError("cache rm: name keys or nodes, or say --all")
    typer.echo(remove_entries(default_cache(), names).title)


def cache_explain(name: str, details: bool = False) -> None:
    """Print what sets the newest value of a key or node apart from the earlier ones."""
    typer.echo(explain_entry(default_cache(), name, details=details))


def convert(source: str, target: str, max_shard: int | None) -> None:
    """Write pickled weights as safetensors into a new folder."""
    from ..models import convert as module

    def progress(done: int, total: int, name: str) -> None:
        typer.echo(f"{done}/{total} {name}", err=True)

    limit = module.MAX_SHARD if max_shard is None else max_shard
    typer.echo(f"{module.convert(source, target, max_shard=limit, progress=progress)} written")
