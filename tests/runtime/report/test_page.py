"""The HTML kit: escaped, well-formed, complete in itself."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

import pytest

from tokenloom.runtime.report.page import (
    POLICY,
    VOID,
    Html,
    block,
    element,
    failure,
    figure,
    figures,
    folded,
    image,
    joined,
    page,
    pairs,
    said,
    section,
    table,
    text,
)

NASTY = "<script>alert(1)</script> & \"q\" 'p' </title></style>\x00\x1b\ud800"


class Reading(HTMLParser):
    """Tags in order, all text, and whether every tag is closed where it must be."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags, self.words, self.open = list[str](), list[str](), list[str]()
        self.attributes = list[tuple[str, str | None]]()
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_text_is_escaped_and_markup_is_not() -> None:
    """Also quotes, for attributes."""
    assert text("<b> & \"'") == "&lt;b&gt; &amp; &quot;&#x27;"
    assert joined(Html("<br>"), "<", 3, None) == "<br>&lt;3"


def test_what_html_cannot_hold_is_replaced() -> None:
    """Control characters and halves of characters would make the file unreadable."""
    assert text("a\x00b\x1b\ud800") == "a\ufffdb\ufffd\ufffd"
    assert page("x", "\ud800").encode()


def test_an_element_has_attributes() -> None:
    """Python's names become HTML's; what is None or False is left out."""
    made = element("details", "a", class_="x", data_n=1, open=True, id=None, hidden=False)
    assert made == '<details class="x" data-n="1" open>a</details>'
    assert element("img", alt='"') == '<img alt="&quot;">'


def test_nothing_can_break_out_of_a_page() -> None:
    """Whatever is put anywhere: no tag of it appears, and all tags are closed in order."""
    parts = [
        said(NASTY),
        block(NASTY),
        failure(NASTY, NASTY),
        folded(NASTY, NASTY, open=True),
        section(NASTY, NASTY, id=NASTY),
        table([NASTY, "n"], [(NASTY, 1)], right=("n",), caption=NASTY, bars={"n": [0.5]}),
        pairs([(NASTY, NASTY)]),
        figures(figure(image(b"x", NASTY), NASTY)),
    ]
    seen = Reading(page(NASTY, *parts))
    assert "script" not in seen.tags
    assert "".join(seen.words).count("<script>alert(1)</script>") == 15


def test_a_page_loads_and_runs_nothing() -> None:
    """A policy says so to the browser; there is no address in it but data."""
    made = page("x", image(b"\x89PNG", "a"))
    seen = Reading(made)
    assert ("content", POLICY) in seen.attributes
    assert [value for name, value in seen.attributes if name in ("src", "href")] == [
        f"data:image/png;base64,{base64.b64encode(bytes([0x89]) + b'PNG').decode()}"
    ]
    assert "http://" not in made
    assert "https://" not in made


def test_a_page_is_html5() -> None:
    """Doctype, language, encoding, title; an empty part leaves no line."""
    lines = page("A title", "", None, "body").split("\n")
    assert lines[:2] == ["<!DOCTYPE html>", '<html lang="en">']
    assert lines[2].startswith('<head><meta charset="utf-8">')
    assert "<title>A title</title>" in lines[2]
    assert lines[-5:] == ["<body>", "body", "</body>", "</html>", ""]


def test_a_table_has_a_head_and_rows() -> None:
    """Numbers stand right; None is an empty cell."""
    made = table(("a", "n"), [("x", 2), (Html("<b>y</b>"), None)], right=("n",), caption="c")
    assert "<caption>c</caption>" in made
    assert '<th scope="col">a</th><th scope="col" class="right">n</th>' in made
    assert '<tr><td>x</td><td class="right">2</td></tr>' in made
    assert '<tr><td><b>y</b></td><td class="right"></td></tr>' in made


def test_a_bar_shows_a_share() -> None:
    """Between nothing and the whole cell; None draws none."""
    made = table(("n",), [(1,), (2,), (3,)], right=("n",), bars={"n": [0.25, 7.0, None]})
    assert '<td class="right bar" style="--share: 25.0%">1</td>' in made
    assert '<td class="right bar" style="--share: 100.0%">2</td>' in made
    assert '<td class="right">3</td>' in made


def test_a_row_of_another_length_is_refused() -> None:
    """It would be read under the wrong heads."""
    with pytest.raises(ValueError, match="zip"):
        table(("a", "b"), [("x",)])


def test_empty_parts_are_left_out() -> None:
    """A title without anything under it says nothing."""
    assert section("Pictures", figures(), pairs([]), None) == ""
