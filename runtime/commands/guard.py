"""Errors as the command line shows them: one clear message on stderr, and an exit code.

0: fine. 1: the run failed. 2: bad usage or a bad graph. 130: stopped with Ctrl-C.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from ..errors import Cancelled, LoomError

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FAILED, BAD_USAGE, STOPPED = 1, 2, 130


@dataclass
class Phase:
    """How far a command has come: once something runs, a mistake is a failed run and not a bad graph."""

    running: bool = False


@contextmanager
def guard(*, debug: bool = False, as_json: bool = False, failed: int = FAILED) -> Iterator[Phase]:
    """Turn whatever is raised inside into a message and `typer.Exit`; `debug` adds the traceback.

    failed: the exit code of what is no mistake of the user's, for commands that say something else by 1.
    """
    phase = Phase()
    try:
        with _plain_warnings():
            yield phase
    except typer.Exit:
        raise
    except (KeyboardInterrupt, Cancelled) as error:
        _tell(error, "stopped", debug, as_json)
        raise typer.Exit(STOPPED) from None
    except BrokenPipeError:  # `tokenloom nodes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(failed) from None
    except SystemExit as error:  # a node or a plug-in that ends the program
        _tell(error, f"SystemExit: {error}", debug, as_json)
        raise typer.Exit(failed) from None
    except LoomError as error:
        _tell(error, str(error), debug, as_json)
        raise typer.Exit(failed if phase.running else BAD_USAGE) from None
    except Exception as error:
        _tell(error, f"{type(error).__name__}: {error}", debug, as_json)
        if not debug:
            typer.echo("(--debug shows where it was raised)", err=True)
        raise typer.Exit(failed) from None


def _tell(error: BaseException, text: str, debug: bool, as_json: bool) -> None:
    notes = list(getattr(error, "__notes__", ()))
    if debug:
        traceback.print_exception(error)
    else:
        lines = [f"error: {text}" if text != "stopped" else text, *map(_indented, notes)]
        typer.echo(harmless("\n".join(lines)), err=True)
    if as_json:
        facts = {"type": type(error).__name__, "message": str(error), "notes": notes}
        typer.echo(json.dumps({"ok": False, "error": facts}))


def harmless(text: str) -> str:
    """A message without control characters, which files by others may hold and terminals obey."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _indented(note: str) -> str:
    return "  " + note.replace("\n", "\n  ")


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as `warning: text` on stderr, without the line of code that raised them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        typer.echo(f"warning: {harmless(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
