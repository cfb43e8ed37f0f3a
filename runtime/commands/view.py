"""`tokenloom view`: a result file, or a picture that tokenloom wrote, as an HTML report."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import typer

from ..errors import GraphError
from ..files import write_whole
from ..report.view import view as page_of


def view(result: Path, output: Path | None, show: bool) -> None:
    """Write the page beside the result, or to `output`, and say where; `show` opens it in a browser."""
    target = result.with_suffix(".html") if output is None else output
    if target.suffix.lower() not in (".html", ".htm"):
        raise GraphError(f"-o {target}: wants a file name that ends in .html")
    text = page_of(result)
    try:
        write_whole(target, text.encode())
    except OSError as error:
        raise GraphError(f"{target}: cannot be written: {error.strerror}; say where: -o FILE.html") from None
    typer.echo(str(target))
    if show:
        webbrowser.open(target.resolve().as_uri())
