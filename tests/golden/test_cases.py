"""Every reference case below TOKENLOOM_GOLDEN (default ../shared/golden), through the public nodes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from .runners import RUNNERS, Case, all_cases, golden_root

for _file in sorted(Path(__file__).parent.glob("run_*.py")):
    import_module(f".{_file.stem}", __package__)


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_case(case: Case) -> None:
    """The nodes reproduce what the released code gave."""
    assert case.kind in RUNNERS, f"no runner for cases of kind {case.kind!r}; write one in tests/golden"
    RUNNERS[case.kind](case)


def test_golden_folder_is_there() -> None:
    """Golden cases run, or the report says that none were at hand."""
    if golden_root() is None:
        pytest.skip("no ../shared/golden beside the checkout and TOKENLOOM_GOLDEN is not set")
    assert all_cases()
