"""Figures: panels in rows, groups, titles, legends, colour bars."""

from __future__ import annotations

import numpy as np
import pytest

from tokenloom.runtime.figure import (
    BAR,
    GAP,
    INK,
    LINE,
    MARGIN,
    NARROWEST,
    PAPER,
    ColourBar,
    Figure,
    Key,
    Panel,
    columns_for,
    fitted_text,
    on,
    panel_side,
    text_width,
    wrapped,
)


def panel(width: int = 100, height: int = 60, label: str = "", group: int = -1) -> Panel:
    """All red."""
    return Panel(np.full((height, width, 3), (255, 0, 0), np.uint8), label, group)


def red(pixels: np.ndarray) -> int:
    return int((pixels == (255, 0, 0)).all(2).sum())


def test_a_panel_alone() -> None:
    """In the middle of a sheet that has room for a legend."""
    picture = Figure(panels=[panel()]).picture()
    assert picture.pixels.shape == (60 + 2 * MARGIN, NARROWEST + 2 * MARGIN, 3)
    assert red(picture.pixels.numpy()) == 6000
    assert picture.pixels[0, 0].tolist() == list(PAPER)


def test_rows_and_columns() -> None:
    """As many in a row as asked for; none covers another."""
    pixels = Figure(panels=[panel(200)] * 5, columns=3).picture().pixels.numpy()
    assert pixels.shape[:2] == (2 * 60 + GAP + 2 * MARGIN, 3 * 200 + 2 * GAP + 2 * MARGIN)
    assert red(pixels) == 5 * 200 * 60


def test_columns_that_look_best() -> None:
    """Wide panels below each other, many in a sheet, those that belong together in one row."""
    assert columns_for([(100, 60)]) == 1
    assert columns_for([(300, 225)] * 16) == 4
    assert columns_for([(1000, 50)] * 4) == 1
    assert columns_for([(300, 225)] * 8, unit=2) % 2 == 0
    assert columns_for([(300, 225)] * 3, unit=4) == 3


def test_many_panels_are_smaller() -> None:
    """One is large, a clip's are not."""
    assert [panel_side(n) for n in (1, 2, 6, 16, 64)] == [672, 560, 416, 304, 232]


def test_labels_title_and_legend_take_room_of_their_own() -> None:
    """The panel stays whole under them, and the caption is the title."""
    keys = [Key(((0, 0, 255),), "blue"), Key(((0, 255, 0), (0, 0, 255)), "both", mark=True)]
    picture = Figure(panels=[panel(label="frame 0")], title="A title", legend=keys).picture()
    assert picture.caption == "A title"
    assert red(picture.pixels.numpy()) == 6000
    assert (picture.pixels.numpy() == (0, 0, 255)).all(2).sum() > 100
    assert picture.pixels.shape[0] > 60 + 2 * MARGIN + 2 * LINE


def test_groups_have_one_bar_for_each_run() -> None:
    """As wide as its panels and the gaps between them."""
    groups = {0: ("first", (0, 0, 200)), 1: ("second", (0, 200, 0))}
    panels = [panel(group=0), panel(group=0), panel(group=1)]
    pixels = Figure(panels=panels, columns=3, groups=groups).picture().pixels.numpy()
    blue = (pixels == (0, 0, 200)).all(2).any(0).nonzero()[0]
    assert blue[-1] - blue[0] + 1 == 2 * 100 + GAP + 2  # the frames of panels are a pixel wider
    assert pixels.shape[0] == 60 + BAR + 2 * MARGIN
    assert red(pixels) == 3 * 6000


def test_a_colour_bar_is_as_wide_as_the_figure() -> None:
    """From its low colour to its high one."""
    colours = np.linspace(0, 255, 256, dtype=np.uint8)[:, None].repeat(3, 1)
    bar = ColourBar(colours, "0", "1", "attention")
    pixels = Figure(panels=[panel(500)], bar=bar).picture().pixels.numpy()
    line = pixels[-MARGIN - 8, :, 0].astype(int)
    rising = (line[1:] - line[:-1] == 0) | (line[1:] - line[:-1] == 1)
    assert rising.sum() > 300


def test_texts_that_are_too_wide() -> None:
    """Wrapped at spaces, or cut."""
    text = "one two three four"
    assert wrapped(text, 14, 10_000) == [text]
    assert " ".join(wrapped(text, 14, 60)) == text
    assert all(text_width(line, 14) <= 60 for line in wrapped(text, 14, 60))
    assert fitted_text(text, 14, 60).endswith("...")
    assert text_width(fitted_text(text, 14, 60), 14) <= 60
    assert fitted_text(text, 14, 1) == ""
    assert wrapped("", 14, 60) == []


@pytest.mark.parametrize(("colour", "ink"), [((255, 255, 0), INK), ((0, 0, 90), PAPER)])
def test_text_can_be_read_on_its_ground(colour: tuple[int, int, int], ink: tuple[int, int, int]) -> None:
    """Dark on light, light on dark."""
    assert on(colour) == ink
