"""Tables and texts for people: rich on a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Literal

import typer

from ..plain import as_json as as_json
from ..plain import seconds_text as seconds_text
from ..plain import size_text as size_text

Cells = Sequence[str]
_GAP = 3  # columns of a terminal between two cells


def on_terminal() -> bool:
    """True when people read stdout."""
    return sys.stdout.isatty()


def show_table(
    columns: Cells, rows: Sequence[Cells], *, right: Cells = (), title: str = "", spare: Cells = ()
) -> None:
    """Print a table; the columns named in `right` are aligned right.

    spare: columns that are left out on a terminal that is too narrow, the first named first.
    """
    if not on_terminal():
        typer.echo(plain_table(columns, rows, right=right, title=title))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    columns, rows = fitting(columns, rows, spare, console.width)
    words = _widths(columns, rows, lambda cell: max(map(len, cell.split()), default=0))
    whole = sum(words) + _GAP * len(words) <= console.width  # no word needs to be broken
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column, least in zip(columns, words, strict=True):
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", min_width=least if whole else None)
    for row in rows:
        table.add_row(*map(_escaped, row))
    console.print(table)


def fitting(columns: Cells, rows: Sequence[Cells], spare: Cells, width: int) -> tuple[Cells, Sequence[Cells]]:
    """The table without as many of the `spare` columns, first named first, as make it fit into `width`.

    Cells are wrapped beyond 40 characters, so a longer one takes no more.
    """
    for name in spare:
        widths = _widths(columns, rows, lambda cell: min(len(cell), 40))
        if sum(widths) + _GAP * len(widths) <= width:
            break
        if name in columns:
            i = columns.index(name)
            columns = [*columns[:i], *columns[i + 1 :]]
            rows = [[*row[:i], *row[i + 1 :]] for row in rows]
    return columns, rows


def _widths(columns: Cells, rows: Sequence[Cells], width: Callable[[str], int]) -> list[int]:
    """Per column the most that `width` gives for a cell."""
    return [max(map(width, cells)) for cells in zip(columns, *rows, strict=True)]


def plain_table(columns: Cells, rows: Sequence[Cells], *, right: Cells = (), title: str = "") -> str:
    """The table as aligned text."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    texts = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([title, *texts] if title else texts)


def show_text(name: str, text: str, label: str = "") -> None:
    """Print a result that is to be read, with a label under it."""
    if not on_terminal():
        typer.echo(f"{name}: {text}" + (f"\n({label})" if label else ""))
        return
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    subtitle = Text(label, style="yellow") if label else None
    panel = Panel(Text(text, style="bold"), title=name, title_align="left", subtitle=subtitle, expand=False)
    Console(highlight=False).print(panel)


def _escaped(cell: str) -> str:
    from rich.markup import escape

    return escape(cell)
