"""The summary as a picture: accuracy against tokens and against FLOPs, with intervals (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..shapes.score import OVERALL
from .markdown import by_method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Plain = Mapping[str, Any]
KEPT, COST = "kept_of_full", "prompt_of_full"
PANELS = (
    ("before the language model", ("before",), KEPT, "visual tokens kept, % of all"),
    ("inside it, and in its cache", ("inside", "cache"), KEPT, "visual tokens kept, % of all"),
    ("by cost", ("before", "inside"), COST, "FLOPs of the prompt in the language model, % of all"),
)
STYLE: Mapping[str, tuple[str, str, str]] = {
    "visionzip": ("#2563eb", "o", "full"),
    "visionzip_seated": ("#2563eb", "o", "none"),
    "prumerge": ("#d97706", "D", "full"),
    "prumerge_free": ("#d97706", "D", "none"),
    "prunevid_merge": ("#dc2626", "v", "full"),
    "prunevid_seated": ("#dc2626", "v", "none"),
    "prunevid": ("#7f1d1d", "^", "full"),
    "fastv": ("#059669", "s", "full"),
    "lookm": ("#7c3aed", "P", "full"),
    "random": ("#6b7280", "x", "full"),
    "uniform": ("#9ca3af", "+", "full"),
    "frames": ("#374151", "|", "full"),
    "fastv_random": ("#6b7280", "x", "full"),
    "fastv_uniform": ("#9ca3af", "+", "full"),
    "kv_random": ("#6b7280", "x", "full"),
    "kv_uniform": ("#9ca3af", "+", "full"),
    "kv_recent": ("#374151", "|", "full"),
}
"""Colour, mark and filling; methods that are not named are in the tables only."""
APART = 1.02  # factor between the places of two methods of one budget, so that intervals can be told apart
TICKS = (5, 10, 15, 25, 50, 100)


def chart(summary: Plain) -> Figure:
    """A row of panels for every medium."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    media = {name: one for name, one in summary["media"].items() if one["settings"]}
    figure = Figure(figsize=(14, 5.6 * len(media)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(media), len(PANELS), squeeze=False, sharey="row")
    for row, (name, medium) in zip(axes, media.items(), strict=True):
        for ax, panel in zip(row, PANELS, strict=True):
            _panel(ax, medium["settings"], *panel)
        row[0].set_ylabel(f"{name}: right answers, %")
    figure.suptitle(
        f"{summary['checkpoint']}, coloured shapes, split {summary['split']}: accuracy against visual tokens",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    return figure


def _panel(ax: Any, settings: Sequence[Plain], title: str, stages: Sequence[str], x: str, label: str) -> None:
    shown = [
        row
        for row in by_method(settings)
        if (first := next(iter(row.values())))["stage"] in stages and first["method"] in STYLE
    ]
    for setting in settings:
        if setting["stage"] == "none":
            one = setting["shares"][OVERALL]
            ax.axhline(100 * one["accuracy"], color="#111827", lw=1, ls="--", label="every token")
    for number, row in enumerate(shown):
        _series(ax, list(row.values()), x, APART ** (number - (len(shown) - 1) / 2) if x == KEPT else 1.0)
    majority = settings[0]["shares"][OVERALL]["majority"]
    ax.axhline(100 * majority, color="#111827", lw=0.8, ls=":", label="commonest answers")
    ax.set_xscale("log")
    ax.set_xticks(TICKS, [str(t) for t in TICKS])
    ax.minorticks_off()
    ax.set_xlim(4, 115)
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_xlabel(label)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        frameon=False,
        fontsize=7,
        ncols=2,
        columnspacing=0.8,
        handlelength=1.8,
        loc="upper left",
        bbox_to_anchor=(-0.04, -0.13),
    )


def _series(ax: Any, settings: Sequence[Plain], x: str, shift: float) -> None:
    """One method's settings, joined; those whose cost is not known are left out."""
    known = sorted((s for s in settings if s[x]), key=lambda s: s[x])
    if not known:
        return
    colour, mark, filling = STYLE[known[0]["method"]]
    shares = [s["shares"][OVERALL] for s in known]
    control = known[0]["control"]
    ax.errorbar(
        [100 * s[x] * shift for s in known],
        [100 * one["accuracy"] for one in shares],
        yerr=[
            [100 * (one["accuracy"] - one["low"]) for one in shares],
            [100 * (one["high"] - one["accuracy"]) for one in shares],
        ],
        color=colour,
        marker=mark,
        fillstyle=filling,
        ms=6,
        lw=1 if control else 1.7,
        ls="--" if control else "-",
        elinewidth=0.9,
        capsize=2,
        alpha=0.8 if control else 1,
        label=known[0]["title"],
    )
