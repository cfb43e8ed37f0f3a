"""HTML pages that need nothing but themselves: no network, no scripts, pictures inside, light and dark.

`Html` is markup; every other text is escaped where it enters markup, so nothing that a file, a model or a
person wrote can become part of a page's structure.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from ..yamltree import UNPRINTABLE

VOID = ("br", "hr", "img", "meta", "link")
# even if something slipped through: no scripts, nothing from elsewhere
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #52606d; --line: #d5dbe1; --back: #ffffff;
  --panel: #f5f7f9; --accent: #2a6fbb; --bad: #b3261e; --bad-back: #fdecea; --good: #2f7d32; --bar: #8fb8e3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #a3adb8; --line: #3a434d;
  --back: #16191d; --panel: #1f242a; --accent: #7fb2ea; --bad: #ff8a80; --bad-back: #3a1f1d;
  --good: #81c784; --bar: #4a7db0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 72rem; background: var(--back);
  color: var(--ink); font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .86em; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem;
  overflow-x: auto; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel); border-radius: 6px;
  border-left: 4px solid var(--accent); padding: .7rem 1rem; margin: .5rem 0; font-size: 1.05rem; }
.soft { color: var(--soft); }
.good { color: var(--good); }
.bad { color: var(--bad); }
.failure { background: var(--bad-back); border-left: 4px solid var(--bad); border-radius: 6px;
  padding: .7rem 1rem; margin: 1rem 0; }
.failure pre { background: transparent; border: 0; padding: 0; margin: .4rem 0; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; margin: .3rem 0; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem .1rem;
  border-bottom: 1px solid var(--line); }
td { overflow-wrap: break-word; }
.pairs td { overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.right { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { background: linear-gradient(var(--bar), var(--bar)) no-repeat left bottom / var(--share) 3px;
  print-color-adjust: exact; }
.right.bar { background-position: right bottom; }
figure { margin: 0; max-width: 100%; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .25rem; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.strip { display: flex; flex-wrap: wrap; gap: 4px; }
img { max-width: 100%; height: auto; border-radius: 4px; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .85rem; }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --back: #fff;
  --panel: #fff; --accent: #333; --bad: #900; --bad-back: #fff; --good: #060; --bar: #888; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr, .failure, .said { break-inside: avoid; } h2, h3, summary { break-after: avoid; }
  pre { white-space: pre-wrap; } .scroll { overflow: visible; } img { max-height: 24cm; } }
"""


class Html(str):
    """Markup. Made by this module; a plain `str` is text."""

    __slots__ = ()


Part = Html | str | int | float | None


def text(part: Part) -> Html:
    """Markup as it is; anything else escaped, without the characters that HTML cannot hold; None: nothing."""
    if isinstance(part, Html):
        return part
    return Html("" if part is None else escape(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(part))))


def joined(*parts: Part) -> Html:
    """Parts one after another."""
    return Html("".join(map(text, parts)))


def element(name: str, /, *inside: Part, **attributes: str | int | bool | None) -> Html:
    """`<name attribute="...">inside</name>`.

    attributes: `class_` is `class`, an underline elsewhere a hyphen; True: without a value; None, False: left
    out.
    """
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{text(str(value))}"')
    head = f"<{' '.join(words)}>"
    return Html(head if name in VOID else f"{head}{joined(*inside)}</{name}>")


def page(title: str, *body: Part) -> str:
    """A whole document, UTF-8: complete in itself, and unable to load or run anything."""
    head = joined(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content="tokenloom"),
        element("title", title or "tokenloom"),
        element("style", Html(STYLE)),
    )
    lines = (text(part) for part in body if part not in (None, ""))
    inside = Html("\n".join(lines))
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{inside}\n</body>\n</html>\n'


def section(title: str, *inside: Part, id: str | None = None) -> Html:
    """A titled part of the page; nothing when nothing is inside."""
    if not any(part not in (None, "") for part in inside):
        return Html("")
    return element("section", element("h2", title), *inside, id=id)


def paragraph(*inside: Part, class_: str | None = None) -> Html:
    """One paragraph."""
    return element("p", *inside, class_=class_)


def code(written: str) -> Html:
    """A word or a line of code."""
    return element("code", written)


def block(written: str) -> Html:
    """Code or a file, its lines kept."""
    return element("pre", "\n" if written.startswith("\n") else "", element("code", written))


def said(words: str) -> Html:
    """What a model answered, or a person asked: lines kept, set apart."""
    return element("div", words, class_="said")


def folded(summary: Part, *inside: Part, open: bool = False) -> Html:
    """What is shown when its summary is clicked."""
    return element("details", element("summary", summary), *inside, open=open)


def table(
    columns: Sequence[Part],
    rows: Iterable[Sequence[Part]],
    *,
    right: Collection[str] = (),
    caption: Part = None,
    bars: Mapping[str, Sequence[float | None]] | None = None,
) -> Html:
    """Rows under named columns; those named in `right` are numbers, aligned right.

    bars: by column, for every row a number of 0..1, drawn as a bar behind the cell; None: no bar.
    Errors: ValueError for a row with another number of cells.
    """
    head = [element("th", name, scope="col", class_=_side(name, right)) for name in columns]
    body: list[Html] = []
    for number, row in enumerate(rows):
        cells = [
            _cell(cell, _side(name, right), bars[str(name)][number] if bars and name in bars else None)
            for name, cell in zip(columns, row, strict=True)
        ]
        body.append(element("tr", *cells))
    made = element(
        "table",
        None if caption is None else element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    return element("div", made, class_="scroll")


def _side(name: Part, right: Collection[str]) -> str | None:
    return "right" if name in right else None


def _cell(cell: Part, side: str | None, share: float | None) -> Html:
    if share is None:
        return element("td", cell, class_=side)
    width = f"{min(max(share, 0.0), 1.0):.1%}"
    return element("td", cell, class_=f"{side or ''} bar".strip(), style=f"--share: {width}")


def pairs(rows: Iterable[tuple[Part, Part]]) -> Html:
    """Names and their values, in two columns without a head; nothing when there are none."""
    body = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in rows]
    if not body:
        return Html("")
    return element("div", element("table", element("tbody", *body), class_="pairs"), class_="scroll")


def image(data: bytes, alt: str, *, kind: str = "image/png", width: int | None = None) -> Html:
    """A picture inside the page. kind: its media type, also `image/svg+xml`, whose scripts never run so.

    width: in CSS pixels, where it differs from the picture's own.
    """
    uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return element("img", src=uri, alt=alt, width=width)


def figure(picture: Html, caption: Part = None) -> Html:
    """A picture with what it shows."""
    return element("figure", picture, None if caption in (None, "") else element("figcaption", caption))


def figures(*shown: Html) -> Html:
    """Figures side by side, as many as fit; nothing when there are none."""
    return element("div", *shown, class_="figures") if shown else Html("")


def strip(*pictures: Html) -> Html:
    """Pictures that belong together, such as frames of a clip, close to each other."""
    return element("div", *pictures, class_="strip")


def failure(message: str, *inside: Part) -> Html:
    """What went wrong, in a box that cannot be missed."""
    return element("div", element("pre", message), *inside, class_="failure", role="alert")
