"""Paths as people read them: those of files that come with tokenloom start at its own folder."""

from __future__ import annotations

import os
from pathlib import Path

HOME = os.path.realpath(Path(__file__).parents[1])


def path_text(path: Path) -> str:
    """`graphs/media/scene.png`, wherever tokenloom is installed; paths to other files as they are."""
    real = os.path.realpath(path)
    inside = real.startswith(HOME + os.sep) and path.is_absolute()
    return os.path.relpath(real, HOME).replace(os.sep, "/") if inside else str(path)
