"""Plots of quality against cost."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tokenloom.runtime.errors import LoomError
from tokenloom.runtime.plots import Axes, Point, check_plot, save_figure, scatter

AXES = Axes(x="tokens", y="right, %", title="Budgets")


def texts(points: list[Point], axes: Axes = AXES) -> list[str]:
    """The words in a plot, ticks left out."""
    ax = scatter(points, axes).axes[0]
    return [text.get_text() for text in ax.texts]


def test_the_front_is_named() -> None:
    """Short labels stand at their points; what another point beats has none."""
    points = [Point(x=1, y=2, label="a"), Point(x=2, y=1, label="worse"), Point(x=3, y=5, label="b")]
    assert texts(points) == ["a", "b"]
    assert texts(points, Axes(x="x", y="KL", higher=False)) == ["a", "worse"]


def test_dollars_are_no_mathematics(tmp_path: Path) -> None:
    """A title, a series or a label with dollars is drawn as it is, though it would be wrong mathematics."""
    price = r"$\frac$"
    figure = scatter([Point(x=1, y=1, label=price, series=price)], Axes(x="x", y="y", title=price))
    save_figure(figure, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").is_file()


def test_long_labels_are_numbered() -> None:
    """A list below the plot says what the numbers are; points that coincide share one."""
    long = "temporal_segment_ratio=0.25 tau={}"
    points = [Point(x=n // 2, y=n // 2, label=long.format(n)) for n in range(4)]
    assert texts(points) == [
        "1",
        "2",
        f"1  {long.format(0)}, and 1 more alike\n2  {long.format(2)}, and 1 more alike",
    ]


def test_labels_that_would_meet_are_numbered() -> None:
    """Short ones, too."""
    points = [Point(x=x, y=x / 100, label=f"k={x}") for x in (1, 2, 90)]
    assert texts(points)[:3] == ["1", "2", "3"]
    apart = [Point(x=x, y=x, label=f"k={x}") for x in (1, 40, 90)]
    assert texts(apart) == ["k=1", "k=40", "k=90"]


def test_series_have_a_legend() -> None:
    """One entry each, and the front."""
    points = [Point(x=1, y=1, series="visionzip"), Point(x=2, y=2, series="random", low=1, high=3)]
    legend = scatter(points, AXES).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["visionzip", "random", "Pareto front"]


def test_files_hold_the_picture_and_texts(tmp_path: Path) -> None:
    """PNG with chunks, SVG, and folders on the way."""
    figure = scatter([Point(x=1, y=1)], AXES)
    save_figure(figure, tmp_path / "new" / "plot.png", {"tokenloom-sweep": "{}"})
    with Image.open(tmp_path / "new" / "plot.png") as picture:
        assert picture.size == (1120, 700)
        assert picture.text["tokenloom-sweep"] == "{}"  # type: ignore[attr-defined]
    save_figure(figure, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_an_empty_plot_is_drawn() -> None:
    """Nothing has been measured yet."""
    assert texts([]) == []


def test_what_cannot_be_drawn_is_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong ending, and no matplotlib."""
    with pytest.raises(LoomError) as error:
        check_plot(Path("plot.gif"))
    assert str(error.value) == "--plot plot.gif: wants a file name that ends in .png, .svg, .pdf"
    check_plot(Path("plot.png"))
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "matplotlib":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LoomError) as error:
        check_plot(Path("plot.png"))
    assert str(error.value) == "--plot plot.png: drawing needs matplotlib; pip install 'tokenloom[report]'"
