"""The summary as Markdown tables, for a README or a model card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..shapes.score import MOVING, OVERALL

Plain = Mapping[str, Any]


def markdown(summary: Plain) -> str:
    """All tables: overall, against controls, kinds at each budget, and what it costs."""
    lines = [
        f"# Accuracy against visual tokens: {summary['checkpoint']}",
        "",
        f"Coloured shapes, split `{summary['split']}`, seed {summary['seed']}. Right answers in %, with 95 % "
        "intervals (bootstrap over pictures or clips). Nothing is trained for any budget.",
    ]
    for name, medium in summary["media"].items():
        lines += ["", f"## {name.capitalize()}", "", *_medium(name, medium)]
    return "\n".join(lines) + "\n"


def _medium(name: str, medium: Plain) -> Iterator[str]:
    settings: Sequence[Plain] = medium["settings"]
    majority = settings[0]["shares"][OVERALL]["majority"]
    yield (
        f"{medium['questions']} questions about {medium['scenes']} {name}. Always giving each kind's "
        f"commonest answer is right for {100 * majority:.1f} %."
    )
    yield ""
    yield from _overall(settings)
    if gaps := [gap for gap in medium["gaps"] if gap["against"] != "full"]:
        yield from ("", "Points better than the control of the same stage and budget, overall:", "")
        yield from _against(settings, gaps)
    yield from ("", "By kind of question:", "")
    yield from _kinds(settings)
    yield from ("", "Visual tokens that are left, and FLOPs in % of the uncompressed model:", "")
    yield from _costs(settings)
    if follows := {s["title"]: s["follows"] for s in settings if s["follows"]}:
        yield from ("", "What the settings follow:", "")
        yield from (f"- {title}: {text}" for title, text in follows.items())
    for method, why in medium["left_out"].items():
        yield from ("", f"`{method}` is left out: {why}")


def _overall(settings: Sequence[Plain]) -> Iterator[str]:
    budgets = budgets_of(settings)
    yield from _head(["method", "where", "no budget", *(percent(part) for part in budgets)], right=2)
    for row in by_method(settings):
        first = next(iter(row.values()))
        cells = [_share(row[part]) + _kept(row[part]) if part in row else "" for part in (None, *budgets)]
        yield _line([_title(first), first["where"], *cells])


def _against(settings: Sequence[Plain], gaps: Sequence[Plain]) -> Iterator[str]:
    """Bold where the interval leaves out 0."""
    budgets = budgets_of(settings)
    by_id = {s["id"]: s for s in settings}
    rows: dict[tuple[str, str], dict[float, str]] = {}
    for gap in gaps:
        mine, other = by_id[gap["id"]], by_id[gap["against"]]
        found = gap["gap"][OVERALL]
        text = f"{100 * found['gap']:+.1f}"
        text = f"**{text}**" if found["low"] > 0 or found["high"] < 0 else text
        cell = f"{text} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
        rows.setdefault((mine["title"], other["title"]), {})[mine["budget"]] = cell
    yield from _head(["method", "against", *(percent(part) for part in budgets)], right=2)
    for titles, cells in rows.items():
        yield _line([*titles, *(cells.get(part, "") for part in budgets)])


def _kinds(settings: Sequence[Plain]) -> Iterator[str]:
    names = [name for name in settings[0]["shares"] if name != OVERALL]
    yield from _head(["method", "budget", *map(_kind, names)], right=2)
    first = settings[0]["shares"]
    yield _line(["questions", "", *(str(first[name]["asked"]) for name in names)])
    yield _line(["commonest answer", "", *(f"{100 * first[name]['majority']:.0f}" for name in names)])
    for setting in settings:
        shares = setting["shares"]
        cells = [f"{100 * (shares[name]['right'] / shares[name]['asked']):.0f}" for name in names]
        yield _line([_title(setting), percent(setting["budget"]), *cells])


def _costs(settings: Sequence[Plain]) -> Iterator[str]:
    columns = ("in the prompt", "last layer", "mean of layers", "in the caches", "FLOPs", "prompt's FLOPs")
    yield from _head(["method", "budget", *columns], right=2)
    for setting in settings:
        tokens = [f"{setting[name]:.4g}" for name in ("placed", "last", "mean", "cached")]
        parts = [setting["flops_of_full"], setting["prompt_of_full"]]
        yield _line(
            [
                _title(setting),
                percent(setting["budget"]),
                *tokens,
                *("" if part is None else f"{100 * part:.0f}" for part in parts),
            ]
        )


def budgets_of(settings: Iterable[Plain]) -> list[float]:
    """The budgets, largest first."""
    return sorted({s["budget"] for s in settings if s["budget"] is not None}, reverse=True)


def by_method(settings: Iterable[Plain]) -> list[dict[float | None, Plain]]:
    """The settings of each method by budget, in the order of the methods."""
    rows: dict[str, dict[float | None, Plain]] = {}
    for setting in settings:
        rows.setdefault(setting["method"], {})[setting["budget"]] = setting
    return list(rows.values())


def percent(part: float | None) -> str:
    """`25 %`; "" for no budget."""
    return "" if part is None else f"{100 * part:g} %"


def _share(setting: Plain) -> str:
    one = setting["shares"][OVERALL]
    return f"{100 * one['accuracy']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def _kept(setting: Plain) -> str:
    """What it keeps, where that is not the budget."""
    part = setting["kept_of_full"]
    if part is None or abs(part - (setting["budget"] or 1)) < 0.01:
        return ""
    return f" (keeps {100 * part:.0f} %)"


def _kind(name: str) -> str:
    return "motion of what moves" if name == MOVING else name


def _title(setting: Plain) -> str:
    return str(setting["title"]) if setting["control"] else f"**{setting['title']}**"


def _head(columns: Sequence[str], right: int) -> Iterator[str]:
    yield _line(columns)
    yield _line(["---"] * right + ["---:"] * (len(columns) - right))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
