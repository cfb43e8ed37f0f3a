"""Previews and reports."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Picture:
    """An image to look at: uint8 [H, W, 3], with a caption."""

    pixels: Tensor
    caption: str = ""

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ValueError(
                f"Picture: {tuple(self.pixels.shape)} {self.pixels.dtype}, wanted [H, W, 3] uint8"
            )

    def __repr__(self) -> str:
        height, width, _ = self.pixels.shape
        return f"Picture[{width}x{height}]" + (f" {self.caption!r}" if self.caption else "")

    def _repr_png_(self) -> bytes:
        """The picture as a PNG file: what a notebook shows of it."""
        from ..pictures import png_bytes  # Pillow, only where somebody looks

        return png_bytes(self)


@dataclass(frozen=True)
class Table:
    """Rows of cells under named columns; `print` shows them aligned."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | bool | None, ...], ...]
    title: str = ""

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"Table: row {i} has {len(row)} cells for {len(self.columns)} columns")

    def texts(self) -> list[tuple[str, ...]]:
        """The rows as text: floats with four digits, nothing for None."""
        return [tuple(map(_text, row)) for row in self.rows]

    def __str__(self) -> str:
        rows = [self.columns, *self.texts()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join([self.title, *lines] if self.title else lines)


def _text(cell: str | float | bool | None) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
