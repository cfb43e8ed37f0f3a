"""What docs/ and README have from graphs, nodes and results: `python -m docs.pages` writes it.

A page says `<!-- parameters visionzip -->`, `<!-- settings merge_static tau -->`, `<!-- graphs -->` or
`<!-- accuracy clips full visionzip -->`; what stands from there to `<!-- end -->` is made here. The drawings
are all those of DRAWINGS.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tokenloom.runtime.about import about, listed
from tokenloom.runtime.commands.graphs import default_text, takes
from tokenloom.runtime.draw import svg, without_models
from tokenloom.runtime.ir import Param
from tokenloom.runtime.registry import find
from tokenloom.runtime.yamlfile import load

DOCS = Path(__file__).parent
DRAWINGS = (
    *("visionzip", "prunevid", "tokenpacker", "tokenpacker_hd", "pvc"),
    *("fastv", "prumerge", "lookm"),
)
ACCURACY = DOCS.parent / "bench" / "results" / "accuracy" / "tiny-llava" / "summary.json"
PART = re.compile(
    r"(<!-- (parameters|settings|graphs|accuracy)((?: [\w/]+)*) -->\n).*?(<!-- end -->)", re.DOTALL
)


def pages() -> list[Path]:
    """Every page with parts that are made here."""
    texts = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
    found = (path for path in texts if PART.search(path.read_text(encoding="utf-8")))
    return list(found)


def written(text: str) -> str:
    """A page with its parts made anew."""
    return PART.sub(lambda m: m[1] + "\n" + _part(m[2], m[3].split()) + "\n\n" + m[4], text)


def drawings() -> Iterator[tuple[Path, str]]:
    """File and content of every drawing: the graph without the wires of its models."""
    for name in DRAWINGS:
        yield DOCS / "methods" / f"{name}.svg", svg(without_models(load(name)))


def _part(kind: str, names: Sequence[str]) -> str:
    if kind == "parameters":
        return _parameters(names[0])
    if kind == "settings":
        return _settings(names[0], names[1:])
    return _accuracy(names[0], names[1:]) if kind == "accuracy" else _graphs()


def _accuracy(medium: str, methods: Sequence[str]) -> str:
    """Right answers of some methods at each budget, with 95 % intervals; controls in italics."""
    settings = json.loads(ACCURACY.read_text(encoding="utf-8"))["media"][medium]["settings"]
    budgets = sorted({s["budget"] for s in settings if s["budget"]}, reverse=True)
    rows = []
    for method in methods:
        at = {s["budget"]: s for s in settings if s["method"] == method}
        first = next(iter(at.values()))
        cells = [_right(at[part]["shares"]["overall"]) if part in at else "" for part in budgets]
        cells = [_right(first["shares"]["overall"]), *[""] * (len(budgets) - 1)] if None in at else cells
        title = f"*{first['title']}*" if first["control"] else first["title"]
        rows.append((title, first["where"], *cells))
    return _table((medium, "where", *(f"{100 * part:g} %" for part in budgets)), rows)


def _right(share: Mapping[str, float]) -> str:
    low, high = (100 * share[end] for end in ("low", "high"))
    return f"**{100 * share['accuracy']:.0f}** [{low:.0f}, {high:.0f}]"


def _parameters(name: str) -> str:
    """What a graph takes: what it adds to its base or changes in it first."""
    found = about(name)
    base = load(found.extends[-1]).params if found.extends else {}
    own, rest = list[Param](), list[Param]()
    for param in found.graph.params.values():
        (rest if base.get(param.name) == param else own).append(param)
    return _param_table([*own, *rest])


def _param_table(params: Sequence[Param]) -> str:
    rows = [(f"`{p.name}`", takes(p), f"`{default_text(p)}`", p.help) for p in params]
    return _table(("parameter", "takes", "default", "what it is"), rows)


def _settings(name: str, wanted: Sequence[str]) -> str:
    """Settings of a node, these or all."""
    rows = [
        (f"`{w.name}`", w.describe(), "required" if w.required else f"`{_shown(w.default)}`", w.help)
        for w in find(name).widgets.values()
        if not wanted or w.name in wanted
    ]
    return _table((f"setting of `{name}`", "takes", "default", "what it is"), rows)


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if str(value).strip() else repr(value)


def _graphs() -> str:
    rows = [
        (f"`{found.name}`", found.graph.title, found.inputs, found.weights) for found in map(about, listed())
    ]
    return _table(("graph", "what it is", "takes", "checkpoint"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def stale() -> list[Path]:
    """Files that are not as they would be written now."""
    now: Mapping[Path, str] = {path: written(path.read_text(encoding="utf-8")) for path in pages()}
    now = {**now, **dict(drawings())}
    return [p for p, text in now.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]


def main() -> None:
    """Write every part anew; say which files changed."""
    texts = {path: written(path.read_text(encoding="utf-8")) for path in pages()} | dict(drawings())
    for path in stale():
        path.write_text(texts[path], encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(DOCS.parent)} written\n")


if __name__ == "__main__":
    main()
