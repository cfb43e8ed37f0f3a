"""A report of one run as an HTML page: from a result file, also of a failed run, or from a picture."""

from __future__ import annotations

import base64
import binascii
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..cost import flops_text
from ..draw import svg
from ..errors import LoomError
from ..plain import seconds_text, size_text
from ..result import Row
from ..values import Table
from . import page
from .again import graph_again, values_again
from .page import Html, Part
from .reading import is_png, read_recipe, read_result, recipe_from
from .recipe import RunRecipe
from .record import with_values

RANDOM = "random weights: this text means nothing"
MOST_ROWS = 200  # of a table
DEEPEST = 6  # of values within values
PLAIN = ("str", "Answer", "Table", "Picture")  # kinds of results that have a place of their own
COLUMNS = ("stage", "node", "tokens", "FLOPs", "seconds", "memory", "cached")


def view(path: Path) -> str:
    """The page of a result file or of a PNG that tokenloom wrote.

    Errors: GraphError when it is neither, or what it holds was damaged or changed.
    """
    if is_png(path):
        return _picture_page(path, read_recipe(path))
    facts = read_result(path)
    recipe = None if facts["recipe"] is None else recipe_from(path, facts["recipe"])
    return page.page(
        _title(facts["title"] or facts["graph"] or "run", facts["ok"]),
        _head(facts, recipe),
        _failure(facts),
        _answers(facts, recipe),
        page.section("Inputs", page.figures(*map(_input, facts["inputs"]))),
        page.section("Pictures", page.figures(*_pictures(facts))),
        page.section("Stages", _stages(facts)),
        page.section("Tables", *_tables(facts)),
        page.section("Further results", page.pairs(_others(facts))),
        page.section("Graph", _drawing(facts["drawing"].encode(errors="replace"))),
        *_recipe(path, recipe),
        _foot(path, facts["command"], recipe),
    )


def _title(name: str, ok: bool) -> str:
    return name if ok else f"{name}: failed"


def _head(facts: Mapping[str, Any], recipe: RunRecipe | None) -> Html:
    """Title, how it ended, where and when it ran."""
    about = [facts["device"], facts["dtype"], "" if recipe is None else _time(recipe)]
    about += [f"{seconds_text(facts['seconds'])} s"] if facts["seconds"] else []
    word = page.element(
        "strong", "done" if facts["ok"] else "failed", class_="good" if facts["ok"] else "bad"
    )
    line = page.joined(word, *(page.text(f" · {part}") for part in about if part))
    notes = [page.paragraph(f"note: {note}", class_="soft") for note in facts["notes"]]
    title = page.element("h1", facts["title"] or facts["graph"] or "A run of tokenloom")
    return page.element("header", title, page.paragraph(line, class_="soft"), *notes)


def _time(recipe: RunRecipe) -> str:
    """`2026-11-20 19:20:02 UTC`."""
    return recipe.made.replace("T", " ").replace("+00:00", " UTC")


def _failure(facts: Mapping[str, Any]) -> Html:
    """What went wrong, where, and what to do: the message and its notes as the command line shows them."""
    error = facts["error"]
    if error is None:
        return Html("")
    head = f"{error['type']}: {error['message']}"
    where = f" in node {error['node']} ({error['node_type']})" if error["node"] else ""
    return page.section(f"What went wrong{where}", page.failure(head, *map(page.block, error["notes"])))


def _answers(facts: Mapping[str, Any], recipe: RunRecipe | None) -> Html:
    """The question, where there is one, and every text among the results."""
    question = None if recipe is None else recipe.params.get("question")
    parts: list[Part] = []
    for name, value in facts["outputs"].items():
        kind = facts["kinds"].get(name)
        if kind not in ("str", "Answer"):
            continue
        words = value["text"] if kind == "Answer" else value
        parts += [page.element("h3", name), page.said(words)]
        parts += [page.paragraph(RANDOM, class_="soft")] if facts["random_weights"] else []
        parts += [page.paragraph(_counts(value), class_="soft")] if kind == "Answer" else []
    asked = page.paragraph(page.element("strong", "question: "), question) if parts and question else None
    return page.section("Answer", asked, *parts)


def _counts(answer: Mapping[str, Any]) -> str:
    kept = answer.get("kept_visual_tokens")
    seen = "" if kept is None else f", {kept} of them seen by the last layer"
    return (
        f"{len(answer.get('ids', ()))} tokens, ended by {answer.get('finish')}; prompt of "
        f"{answer.get('prompt_tokens')} tokens, {answer.get('visual_tokens')} visual{seen}"
    )


def _input(shown: Mapping[str, Any]) -> Html:
    """A picture or clip that the run was given."""
    name = page.joined(page.element("strong", shown["at"]), f" = {shown['path']}")
    about = page.text(f" ({shown['about']})" if shown["about"] else "")
    problem = page.element("div", shown["problem"], class_="bad") if shown["problem"] else None
    frames = [page.image(_bytes(jpeg), shown["path"], kind="image/jpeg") for jpeg in shown["jpegs"]]
    return page.figure(page.strip(*frames), page.joined(name, about, problem))


def _pictures(facts: Mapping[str, Any]) -> Iterator[Html]:
    for name, shown in facts["pictures"].items():
        caption = page.joined(page.element("strong", name), " ", shown["caption"])
        yield page.figure(page.image(_bytes(shown["png"]), shown["caption"] or name), caption)


def _bytes(text: str) -> bytes:
    """What base64 holds; nothing, when it is none: the browser then shows the alternative text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


# -- stages --------------------------------------------------------------------------------------------------


def _stages(facts: Mapping[str, Any]) -> Html:
    """One row per stage that was done, the one that failed, and the sum; then those that never ran."""
    rows = [_row(stage) for stage in facts["stages"]]
    cells = [list(_cells(row)) for row in rows]
    tokens = [max((*row.tokens_out.values(), 0)) for row in rows]
    most, longest = max(tokens, default=0), max((row.seconds for row in rows), default=0.0)
    shares: dict[str, list[float | None]] = {
        "tokens": [count / most if count else None for count in tokens],
        "seconds": [row.seconds / longest if row.seconds else None for row in rows],
    }
    error = facts["error"]
    if error is not None and error["node"]:
        failed = page.element("strong", "failed", class_="bad")
        cells.append([error["node"], error["node_type"], failed, "", "", "", ""])
    if rows:
        cells.append(_sum(rows, facts["seconds"]))
    for column in shares.values():
        column += [None] * (len(cells) - len(column))
    left = [id for id in facts["left"] if error is None or id != error["node"]]
    return page.joined(
        page.table(COLUMNS, cells, right=("FLOPs", "seconds", "memory"), bars=shares) if cells else None,
        page.paragraph(f"not run: {', '.join(left)}", class_="soft") if left else None,
    )


def _row(stage: Mapping[str, Any]) -> Row:
    """A stage of the file as a row of a report."""
    return Row(
        stage["node"],
        stage["type"],
        stage["seconds"],
        stage["cached"] or "",
        stage["tokens_in"],
        stage["tokens_out"],
        stage["bytes"],
        stage["peak"],
        stage["loading"],
        stage["flops"],
    )


def _cells(row: Row) -> Sequence[Part]:
    return (
        row.id,
        row.type if row.type != row.id else "",
        row.tokens.replace(" -> ", " \N{RIGHTWARDS ARROW} "),
        "" if row.flops is None else flops_text(row.flops),
        "" if row.cached else seconds_text(row.seconds),
        size_text(row.peak) if row.peak else "",
        row.cached,
    )


def _sum(rows: Sequence[Row], seconds: float) -> list[Part]:
    counted = [row.flops for row in rows if row.flops is not None]
    loading = sum(row.loading for row in rows)
    told = f"{seconds_text(loading)} s of it loading models" if loading else ""
    total = page.element("strong", "total")
    peak = max(row.peak for row in rows)
    flops = flops_text(sum(counted)) if counted else ""
    return [total, "", told, flops, seconds_text(seconds), size_text(peak) if peak else "", ""]


# -- other results -------------------------------------------------------------------------------------------


def _tables(facts: Mapping[str, Any]) -> Iterator[Html]:
    for name, value in facts["outputs"].items():
        if facts["kinds"].get(name) != "Table":
            continue
        rows = tuple(map(tuple, value["rows"]))
        texts = Table(tuple(value["columns"]), rows[:MOST_ROWS], value["title"]).texts()
        numbers = [c for i, c in enumerate(value["columns"]) if all(_is_number(row[i]) for row in rows)]
        yield page.element("h3", name)
        yield page.table(value["columns"], texts, right=numbers, caption=value["title"] or None)
        if len(rows) > MOST_ROWS:
            yield page.paragraph(f"and {len(rows) - MOST_ROWS} more rows", class_="soft")


def _is_number(cell: object) -> bool:
    return cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))


def _others(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in facts["outputs"].items():
        if facts["kinds"].get(name) not in PLAIN:
            yield name, _told(value)


def _told(value: Any, deep: int = 0) -> str:
    """A value in a line, as JSON has it: `Patches 30 x 64 float32`."""
    if deep > DEEPEST:
        return "…"
    if isinstance(value, dict) and {"type", "shape", "dtype"} <= value.keys():
        shape = value["shape"] if isinstance(value["shape"], list) else []
        return f"{value['type']} {' x '.join(map(str, shape))} {value['dtype']}"
    if isinstance(value, dict) and {"type", "text"} == value.keys():
        return str(value["text"])
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_told(one, deep + 1)}" for name, one in value.items())
    return ", ".join(_told(one, deep + 1) for one in value) if isinstance(value, list) else str(value)


# -- what it was made of -------------------------------------------------------------------------------------


def _drawing(drawing: bytes) -> Html | None:
    """The graph as a picture: as an image, its text cannot become part of the page."""
    return page.image(drawing, "drawing of the graph", kind="image/svg+xml") if drawing else None


def _recipe(path: Path, recipe: RunRecipe | None) -> list[Html]:
    """Parameters, files, versions, and the graph as YAML."""
    if recipe is None:
        return []
    files = [
        (one.at, page.joined(one.path, page.element("br"), page.code(one.fingerprint)))
        for one in recipe.files
    ]
    nodes = {node.file for node in recipe.nodes.values() if node.file}
    rows: list[tuple[Part, Part]] = [(name, version) for name, version in recipe.versions.items()]
    rows += [("nodes from", file) for file in sorted(nodes)]
    return [
        page.section("Parameters", page.pairs((name, _value(v)) for name, v in recipe.params.items())),
        page.section("Files", page.pairs(files)),
        page.section("Versions", page.pairs(rows)),
        page.section("Recipe", page.folded("the graph as YAML", page.block(recipe.graph or recipe.lost))),
    ]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return {None: "null", True: "true", False: "false"}.get(value, "") or str(value)


def _foot(path: Path, command: str, recipe: RunRecipe | None) -> Html:
    lines = [page.paragraph("made by ", page.code(command))] if command else []
    if recipe is not None:
        again = shlex.join(["tokenloom", "rerun", str(path)])
        lines.append(page.paragraph("to run it again: ", page.code(again)))
    return page.element("footer", *lines)


def _picture_page(path: Path, recipe: RunRecipe) -> str:
    """The page of a PNG: the picture, and what it was made of."""
    try:
        graph = graph_again(path, recipe)
        drawing = _drawing(svg(with_values(graph, values_again(path, recipe, graph, {}))).encode())
    except LoomError as error:
        drawing = page.paragraph(f"cannot be drawn here: {error}", class_="soft")
    name = recipe.output or path.name
    about = " · ".join(filter(None, (recipe.device, recipe.dtype, _time(recipe))))
    return page.page(
        f"{name}: {recipe.title}" if recipe.title else name,
        page.element(
            "header", page.element("h1", recipe.title or name), page.paragraph(about, class_="soft")
        ),
        page.section(name, page.image(path.read_bytes(), name)),
        page.section("Graph", drawing),
        *_recipe(path, recipe),
        _foot(path, "", recipe),
    )
