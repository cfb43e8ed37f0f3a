"""The page of a comparison: what each graph said, what it kept, what every stage took, and its recipe."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from ..cost import flops_text
from ..pictures import png_bytes
from ..plain import seconds_text, size_text
from ..report import page
from ..report.page import Html, Part
from .chart import chart
from .comparison import Column, Comparison, Stage, percent, ratio_text, tokens_text
from .lens import KEPT

T = TypeVar("T")
RANDOM = "random weights: the answers mean nothing"
ARROW = "\N{RIGHTWARDS ARROW}"
SHARED, CACHED = "\N{N-ARY UNION}", "\N{CLOCKWISE OPEN CIRCLE ARROW}"
NUMBERS = ("kept", "FLOPs", "of base", "seconds", "in LLM", "memory", "KV cache", "KL")
Cell = Callable[[Stage], str]
STYLE = """
body { max-width: 84rem; }
.line { white-space: nowrap; }
.answer { min-width: 14rem; max-width: 30rem; display: inline-block; white-space: pre-wrap; }
.mark { color: var(--accent); font-size: .8em; padding-left: .2em; }
.kept figure { flex: 1 1 20rem; max-width: 30rem; }
"""


def page_of(found: Comparison) -> str:
    """The whole page."""
    names = [column.name for column in found if not column.is_base or not column.base]
    title = f"{', '.join(names or [column.name for column in found])}: compared"
    return page.page(
        title,
        page.element("style", Html(STYLE)),
        _head(found),
        page.section("Question", _question(found)),
        page.section("Side by side", _summary(found), *_reading(found)),
        page.section("What went wrong", *map(_failure, (c for c in found if c.error))),
        page.section("What each keeps", _pictures(found), *_no_pictures(found)),
        page.section("Visual tokens per layer", _chart(found)),
        page.section("Tokens per stage", _matrix(found, _tokens), _said_of_tokens(found)),
        page.section("Seconds per stage", _matrix(found, _seconds, _sum_seconds)),
        page.section("FLOPs per stage", _matrix(found, _flops, _sum_flops)),
        page.section("Memory per stage", _matrix(found, _memory, _most_memory)),
        page.section("Graphs and recipes", *map(_recipe, found)),
        _foot(found),
    )


def _head(found: Comparison) -> Html:
    made = found.made.replace("T", " ").replace("+00:00", " UTC")
    took = f"{seconds_text(found.seconds)} s for all"
    about = [found.checkpoint, found.device, found.dtype, made, took]
    rivals = [column.name for column in found if not column.is_base]
    title = ", ".join(rivals or [column.name for column in found])
    failed = sum(bool(column.error) for column in found)
    word = page.element("strong", f"{failed} failed", class_="bad") if failed else None
    line = page.joined(word, " · " if failed else None, " · ".join(filter(None, about)))
    notes = [page.paragraph(f"note: {note}", class_="soft") for note in found.notes]
    if found.random_weights:
        notes.insert(0, page.paragraph(RANDOM, class_="bad"))
    return page.element("header", page.element("h1", title), page.paragraph(line, class_="soft"), *notes)


def _question(found: Comparison) -> Html:
    shown: list[Html] = []
    for one in found.inputs:
        frames = [page.image(jpeg, one.path, kind="image/jpeg") for jpeg in one.jpegs]
        name = page.joined(page.element("strong", one.at), f" = {one.path}")
        about = page.text(f" ({one.about})" if one.about else "")
        problem = page.element("div", one.problem, class_="bad") if one.problem else None
        shown.append(page.figure(page.strip(*frames), page.joined(name, about, problem)))
    return page.joined(page.said(found.question) if found.question else None, page.figures(*shown))


# -- side by side --------------------------------------------------------------------------------------------


def _summary(found: Comparison) -> Html:
    """One row per graph, the figures that matter as bars."""
    columns = ("graph", "answer", "tokens", *NUMBERS, "top-1")
    rows = [_row(found, column) for column in found]
    most = max((column.llm_seconds or 0.0 for column in found), default=0.0)
    bars: dict[str, Sequence[float | None]] = {
        "kept": [column.kept for column in found],
        "of base": [_share(column.flops, found.base_of(column)) for column in found],
        "in LLM": [column.llm_seconds / most if column.llm_seconds else None for column in found],
    }
    return page.table(columns, rows, right=NUMBERS, bars=bars)


def _row(found: Comparison, column: Column) -> list[Part]:
    name = page.joined(
        page.element("strong", column.name),
        page.joined(page.element("br"), page.element("span", "uncompressed", class_="soft"))
        if column.is_base
        else None,
    )
    if column.error:
        return [name, page.element("span", "failed: ", column.error, class_="bad answer"), *[""] * 10]
    base = found.base_of(column)
    top1 = ""
    if column.top1 is not None and not column.is_base:
        top1 = page.element("span", "same", class_="good") if column.top1 else "differs"
    return [
        name,
        page.element("span", "" if column.answer is None else column.answer.text, class_="answer"),
        page.element("span", tokens_text(column).replace("->", ARROW), class_="line"),
        "" if column.kept is None else percent(column.kept),
        "" if column.flops is None else flops_text(column.flops),
        ratio_text(column.flops, None if base is None else base.flops),
        "" if column.seconds is None else seconds_text(column.seconds),
        "" if column.llm_seconds is None else seconds_text(column.llm_seconds),
        "" if column.peak is None else size_text(column.peak),
        "" if column.cached_bytes is None else size_text(column.cached_bytes),
        "" if column.kl is None or column.is_base else f"{column.kl:.3g}",
        top1,
    ]


def _share(value: float | None, base: Column | None) -> float | None:
    return None if value is None or base is None or not base.flops else value / base.flops


def _reading(found: Comparison) -> Iterator[Html]:
    """What the figures mean."""
    yield page.paragraph(
        f"tokens: patches of the tower {ARROW} visual tokens in the prompt, and those of the last layer "
        "where they are fewer. kept: visual tokens of a layer of the language model, the mean over its "
        "layers, of the base's. FLOPs by formula, the answer's tokens included. in LLM: seconds of the "
        "stages from the prompt on. memory: by how much the hungriest stage raised it, weights aside. KV "
        "cache: after the prompt. KL: nats from the base's distribution of the first token; top-1: whether "
        "the likeliest first token is the base's.",
        class_="soft",
    )
    yield page.paragraph(_charged(found), class_="soft")


def _charged(found: Comparison) -> str:
    """Who is charged with what."""
    stages = [stage for column in found for stage in column.stages]
    parts = [f"loading models took {seconds_text(found.loading)} s, which no graph is charged for"]
    parts = parts if found.loading else []
    if any(stage.shared > 1 for stage in stages):
        parts.append(
            f"{SHARED}: the stage was run once, with the side channels that any of these graphs wants, and "
            "its seconds and memory are charged to each"
        )
    if any(stage.cached for stage in stages):
        parts.append(f"{CACHED}: from the cache, charged with what it took when it was made")
    if found.repeats > 1:
        parts.append(f"seconds and memory are medians of {found.repeats} runs")
    elif stages:
        parts.append("each stage was measured once, the first of its kind with its warm-up")
    return "; ".join(parts)


def _failure(column: Column) -> Html:
    return page.joined(
        page.element("h3", column.name), page.failure(column.error, *map(page.block, column.notes))
    )


# -- pictures ------------------------------------------------------------------------------------------------


def _pictures(found: Comparison) -> Html | None:
    shown = [_picture(column) for column in found if column.picture is not None]
    return page.element("div", page.figures(*shown), class_="kept") if shown else None


def _picture(column: Column) -> Html:
    """A PNG with the recipe inside: `tokenloom rerun` takes it, once it is saved from the page."""
    assert column.picture is not None
    recipe = None if column.recipe is None else replace(column.recipe, output=KEPT).text()
    drawn = page.image(png_bytes(column.picture, recipe or {}), f"tokens that {column.name} keeps")
    about = f" {tokens_text(column).replace('->', ARROW)} tokens" if column.layers else ""
    return page.figure(drawn, page.joined(page.element("strong", column.name), about))


def _no_pictures(found: Comparison) -> Iterator[Html]:
    for column in found:
        if column.no_picture and not column.error:
            yield page.paragraph(f"{column.name}: no picture: {column.no_picture}", class_="soft")


def _chart(found: Comparison) -> Html | None:
    drawn = chart(found.columns)
    alt = "visual tokens of each graph in every layer of the language model"
    return page.image(drawn.encode(), alt, kind="image/svg+xml") if drawn else None


# -- stage by stage ------------------------------------------------------------------------------------------


def _matrix(found: Comparison, cell: Cell, total: Callable[[Column], str] | None = None) -> Html | None:
    """One row per stage, one column per graph; rows without any figure are left out."""
    columns = [column for column in found if column.stages]
    names = [column.name for column in columns]
    rows: list[list[Part]] = []
    order = stage_order([[(stage.id, stage.type) for stage in column.stages] for column in columns])
    often = Counter(id for id, _ in order)
    for id, kind in order:
        stages = [next((s for s in column.stages if s[:2] == (id, kind)), None) for column in columns]
        texts = ["" if stage is None else cell(stage) for stage in stages]
        if any(texts):
            name = id if often[id] == 1 else f"{id} ({kind})"
            rows.append([name, *(_marked(text, stage) for text, stage in zip(texts, stages, strict=True))])
    if not rows:
        return None
    if total is not None:
        rows.append([page.element("strong", "all"), *(total(column) for column in columns)])
    return page.table(("stage", *names), rows, right=names)


def _marked(text: str, stage: Stage | None) -> Part:
    """The figure, with a mark for what was shared and what came from the cache."""
    if not text or stage is None:
        return text
    marks = (SHARED if stage.shared > 1 else "") + (CACHED if stage.cached else "")
    if not marks:
        return text
    told = [f"shared by {stage.shared} graphs"] if stage.shared > 1 else []
    told += [f"from the cache ({stage.cached})"] if stage.cached else []
    told += [f"side channels: {', '.join(stage.side)}"] if stage.side else []
    return page.joined(text, page.element("span", marks, class_="mark", title="; ".join(told)))


def stage_order(lists: Sequence[Sequence[T]]) -> list[T]:
    """All names in an order that suits each list as far as can be: a new one follows what it follows."""
    out: list[T] = []
    for names in lists:
        place = 0
        for name in names:
            if name in out:
                place = max(place, out.index(name) + 1)
            else:
                out.insert(place, name)
                place += 1
    return out


def _tokens(stage: Stage) -> str:
    return stage.tokens


def _seconds(stage: Stage) -> str:
    return seconds_text(stage.seconds)


def _flops(stage: Stage) -> str:
    return "" if stage.flops is None else flops_text(stage.flops)


def _memory(stage: Stage) -> str:
    return size_text(stage.peak) if stage.peak else ""


def _sum_seconds(column: Column) -> str:
    return "" if column.seconds is None else seconds_text(column.seconds)


def _sum_flops(column: Column) -> str:
    return "" if column.flops is None else flops_text(column.flops)


def _most_memory(column: Column) -> str:
    return "" if column.peak is None else f"at most {size_text(column.peak)}"


def _said_of_tokens(found: Comparison) -> Html:
    told = "From the prompt on, text is counted too. " if any(column.layers for column in found) else ""
    return page.paragraph(f"{told}{SHARED}: shared, run once.", class_="soft")


# -- recipes -------------------------------------------------------------------------------------------------


def _recipe(column: Column) -> Html:
    """Drawing, parameters, YAML and the recipe as `rerun` reads it."""
    inside: list[Part] = []
    if column.drawing:
        inside.append(page.image(column.drawing.encode(), f"drawing of {column.name}", kind="image/svg+xml"))
    inside.append(page.pairs((name, _value(value)) for name, value in column.params.items()))
    if column.recipe is not None:
        record = json.dumps(column.recipe.record(), indent=1)
        inside.append(page.block(column.recipe.graph or column.recipe.lost))
        inside.append(page.folded("recipe, with fingerprints and versions", page.block(record)))
    title = page.joined(page.element("strong", column.name), f": {column.title}" if column.title else "")
    return page.folded(title, *inside)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_value, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _foot(found: Comparison) -> Html:
    lines = [page.paragraph("made by ", page.code(found.command))] if found.command else []
    text = (
        "every picture carries the recipe of its graph: save it, and tokenloom rerun FILE.png runs it again"
    )
    return page.element("footer", *lines, page.paragraph(text))
