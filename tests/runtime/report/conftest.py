"""The working folder as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.report.toys import working_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a plug-in, graphs and a file; no traces left."""
    with working_folder(tmp_path, monkeypatch) as made:
        yield made
