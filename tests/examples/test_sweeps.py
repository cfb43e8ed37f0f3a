"""The sweep files in `examples/sweeps` are sound: everything that is checked before work passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.runtime.commands.sweep import Asked, prepared

FILES = sorted((Path(__file__).parents[2] / "examples" / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_sweep_is_ready_to_run(file: Path, tmp_path: Path) -> None:
    """Parameters, data, media and all combinations; a title, and a plot of what there will be."""
    job = prepared(Asked(graph=str(file), output=tmp_path / "rows.jsonl"))
    assert len(job.sweep.grid.axes) > 1
    assert job.title
    assert job.plot is not None


def test_prunevids_loops_are_one_sweep(tmp_path: Path) -> None:
    """Five hyper-parameters, the temporal ones slowest, so that the cache keeps the early stages.

    With the released layers it is the sweep of a PLLaVA, as the comment in the file has it.
    """
    (file,) = [file for file in FILES if file.stem == "prunevid"]
    words = ["checkpoint=tiny-random-pllava", "lora_alpha=14", "selected_layer=10,5"]
    sweep = prepared(Asked(graph=str(file), words=words, output=tmp_path / "rows.jsonl")).sweep
    assert sweep.grid.axes == ("temporal_segment_ratio", "tau", "cluster_ratio", "selected_layer", "alpha")
    assert next(iter(sweep.grid)).items() >= {
        "temporal_segment_ratio": 0.25, "tau": 0.8, "cluster_ratio": 0.5, "selected_layer": 10, "alpha": 0.4
    }.items()  # fmt: skip
