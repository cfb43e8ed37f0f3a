"""Whole folders or none: written under another name, then given their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends well, and is gone when it does not.

    target: missing, or an empty folder; with `replace` a folder whose content is removed once the new one is
    in its place.

    Raises:
        OSError: as it is; FileExistsError for a target that is not empty, or not a folder.
    """
    target = target.resolve()
    _refuse(target, replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", dir=target.parent))
    try:
        yield work
        os.chmod(work, 0o777 & ~_umask())
        _refuse(target, replace)  # someone else may have been faster
        _swap(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_abandoned(target: Path) -> None:
    """Remove what killed processes left beside `target`; what others are writing stays."""
    for left in target.parent.glob(f".{glob_plain(target.name)}.*.*"):
        number = left.name.removeprefix(f".{target.name}.").split(".")[0]
        if left.is_dir() and number.isdigit() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def glob_plain(name: str) -> str:
    """The name as a pattern that only it matches."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _refuse(target: Path, replace: bool) -> None:
    if os.path.lexists(target) and not target.is_dir():
        raise FileExistsError(17, "is a file, not a folder", str(target))
    if not replace and target.is_dir() and any(target.iterdir()):
        raise FileExistsError(17, "holds something already", str(target))


def _swap(work: Path, target: Path) -> None:
    if not target.is_dir() or not any(target.iterdir()):
        with suppress(FileNotFoundError):
            target.rmdir()  # Windows renames onto nothing that is there
        work.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", dir=target.parent)) / "old"
    try:
        target.rename(old)
        try:
            work.rename(target)
        except OSError:
            old.rename(target)
            raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
