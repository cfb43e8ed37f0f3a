"""`--result FILE.json`: what came out of a run, or how it failed, put down when it is over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import GraphError
from ..report.record import Recorder, failure, success, write_record


@contextmanager
def recorded(path: Path | None) -> Iterator[Recorder]:
    """What happens inside is written to `path` afterwards, failures too; None: nothing is written.

    Errors: GraphError for a path that cannot be one, before anything is done.
    """
    seen = Recorder()
    if path is None:
        yield seen
        return
    _check(path)
    try:
        yield seen
    except BaseException as error:
        try:
            write_record(path, failure(error, seen))
        except OSError as second:
            error.add_note(f"--result {path}: cannot be written: {second.strerror}")
        raise
    assert seen.result is not None
    try:
        write_record(path, success(seen.result, seen.command))
    except OSError as error:
        raise GraphError(f"--result {path}: cannot be written: {error.strerror}") from None


def _check(path: Path) -> None:
    if path.suffix.lower() != ".json":
        raise GraphError(f"--result {path}: wants a file name that ends in .json")
    if path.is_dir():
        raise GraphError(f"--result {path}: cannot be written: it is a folder")
    if not path.parent.is_dir():
        raise GraphError(f"--result {path}: cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise GraphError(f"--result {path}: cannot be written: Permission denied")
