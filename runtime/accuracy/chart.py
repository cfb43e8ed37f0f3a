"""The summary as a picture: accuracy against tokens and against FLOPs, with intervals (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..shapes.score import OVERALL
from .markdown import by_method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Plain = Mapping[str, Any]
PANELS = (
    ("before the language model", ("before",), "kept_of_full", "visual tokens kept, % of all"),
    ("inside the language model", ("inside", "cache"), "kept_of_full", "visual tokens kept, % of all"),
    ("all", ("before", "inside"), "prompt_of_full", "FLOPs of the prompt in the language model, % of all"),
)
STYLE: Mapping[str, tuple[str, str]] = {
    "visionzip": ("#2563eb", "o"),
    "prumerge": ("#d97706", "D"),
    "prumerge_free": ("#d97706", "d"),
    "prunevid": ("#dc2626", "^"),
    "prunevid_merge": ("#f472b6", "v"),
    "prunevid_random": ("#9ca3af", "<"),
    "fastv": ("#059669", "s"),
    "lookm": ("#7c3aed", "P"),
    "random": ("#6b7280", "x"),
    "uniform": ("#9ca3af", "+"),
    "frames": ("#4b5563", "|"),
    "fastv_random": ("#6b7280", "x"),
    "fastv_uniform": ("#9ca3af", "+"),
    "kv_random": ("#a8a29e", "1"),
    "kv_uniform": ("#a8a29e", "2"),
    "kv_recent": ("#78716c", "3"),
}
APART = 1.018  # factor between the places of two methods of one budget, so that intervals can be told apart


def chart(summary: Plain) -> Figure:
    """A row of panels for every medium."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    media = {name: one for name, one in summary["media"].items() if one["settings"]}
    figure = Figure(figsize=(15, 4.9 * len(media)), dpi=110, layout="constrained")
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
    shown = [row for row in by_method(settings) if next(iter(row.values()))["stage"] in stages]
    for number, row in enumerate(shown):
        _series(ax, list(row.values()), x, APART ** (number - len(shown) / 2))
    for setting in settings:
        if setting["stage"] == "none":
            one = setting["shares"][OVERALL]
            ax.axhline(100 * one["accuracy"], color="#111827", lw=1, ls="--", label="every token")
    majority = settings[0]["shares"][OVERALL]["majority"]
    ax.axhline(100 * majority, color="#111827", lw=0.8, ls=":", label="commonest answers")
    ax.set_xscale("log")
    ticks = [5, 10, 20, 25, 50, 100]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.set_xlim(4, 112)
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_xlabel(label)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=7.5, loc="lower right")


def _series(ax: Any, settings: Sequence[Plain], x: str, shift: float) -> None:
    known = sorted((s for s in settings if s[x]), key=lambda s: s[x])
    if not known:
        return
    colour, mark = STYLE.get(known[0]["method"], ("#0891b2", "*"))
    shares = [s["shares"][OVERALL] for s in known]
    ax.errorbar(
        [100 * s[x] * shift for s in known],
        [100 * one["accuracy"] for one in shares],
        yerr=[
            [100 * (one["accuracy"] - one["low"]) for one in shares],
            [100 * (one["high"] - one["accuracy"]) for one in shares],
        ],
        color=colour,
        marker=mark,
        ms=6,
        lw=1 if known[0]["control"] else 1.8,
        ls="--" if known[0]["control"] else "-",
        elinewidth=1,
        capsize=2,
        alpha=0.75 if known[0]["control"] else 1,
        label=known[0]["title"],
    )
