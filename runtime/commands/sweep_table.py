"""What came out of a sweep: a table for people, plain data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from ..cost import flops_text
from ..sweep.grid import plain_text
from ..sweep.summary import Setting
from .show import seconds_text, show_table

SHOWN = 40  # settings; of more, only the Pareto front is shown


def show_settings(found: Sequence[Setting], axes: Sequence[str], title: str, front: str, rows: Path) -> None:
    """One line per setting; * marks the Pareto front of `front`. rows: where all of them are."""
    shown = list(found)
    if len(found) > SHOWN:
        shown = [one for one in found if one.best] or shown[:SHOWN]
    columns = ("", *axes, "items", "right %", "KL", "tokens", "FLOPs", "prompt FLOPs", "seconds")
    cells = [("*" if one.best else "", *_setting(one, axes), *_figures(one)) for one in shown]
    kept = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    show_table(
        [columns[i] for i in kept],
        [[row[i] for i in kept] for row in cells],
        right=columns[1:],
        title=title,
    )
    if any(one.best for one in found):
        typer.echo(f"* no setting is better for as little: {front}")
    if len(shown) < len(found):
        typer.echo(f"{len(found) - len(shown)} more settings are in {rows}")


def plain_settings(found: Sequence[Setting]) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [
        {
            "params": one.params,
            "items": one.count,
            "failed": one.failed,
            "accuracy": one.accuracy,
            "interval": one.interval,
            **one.figures,
            "pareto": one.best,
        }
        for one in found
    ]


def _setting(one: Setting, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(plain_text(one.params.get(name)) for name in names)


def _figures(one: Setting) -> tuple[str, ...]:
    names = ("tokens", "flops", "flops_prompt", "kl", "seconds")
    tokens, flops, prompt, kl, seconds = (one.figures[name] for name in names)
    return (
        f"{one.count}" + (f" ({one.failed} failed)" if one.failed else ""),
        "" if one.accuracy is None else f"{one.accuracy:.1f}",
        "" if kl is None else f"{kl:.3g}",
        "" if tokens is None else f"{tokens:.4g}",
        "" if flops is None else flops_text(round(flops)),
        "" if prompt is None else flops_text(round(prompt)),
        "" if seconds is None else seconds_text(seconds),
    )
