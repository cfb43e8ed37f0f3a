"""The notebook runs from top to bottom, shows what it says, and is kept without outputs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "explore_tokens.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every cell's outputs, by its id; run as somebody would who opens it in its folder."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TOKENLOOM_CACHE", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR"):
            (folder / name).mkdir()
            patch.setenv(name, str(folder / name))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        client = NotebookClient(
            read(), timeout=250, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
        )
        done = client.execute()
    return {cell["id"]: cell["outputs"] for cell in done["cells"] if cell["cell_type"] == "code"}


def printed(outputs: list[Any]) -> str:
    return "".join(out["text"] for out in outputs if out["output_type"] == "stream")


def picture(outputs: list[Any]) -> Image.Image:
    [png] = [out["data"]["image/png"] for out in outputs if "image/png" in out.get("data", {})]
    return Image.open(io.BytesIO(base64.b64decode(png)))


def test_no_cell_complains(ran: dict[str, Any]) -> None:
    """Nothing on stderr: no warning, no progress bar."""
    streams = [out["name"] for outputs in ran.values() for out in outputs if out["output_type"] == "stream"]
    assert set(streams) == {"stdout"}


@pytest.mark.parametrize("cell", ["look", "click", "again", "cls", "zip", "top", "paint", "numbers"])
def test_it_shows_pictures(ran: dict[str, Any], cell: str) -> None:
    """Drawn, not blank."""
    shown = picture(ran[cell]).convert("RGB")
    assert shown.width >= 300
    assert len(shown.getcolors(1 << 24) or []) > 100


def test_a_second_click_runs_the_drawing_alone(ran: dict[str, Any]) -> None:
    """As its text says: all that is upstream comes from the cache."""
    lines = [line.split() for line in printed(ran["again"]).splitlines()]
    assert [name for name, *_, unit in lines if unit == "ms"] == ["overlay_attention"]
    assert "encode_vision" in [name for name, *_ in lines]


def test_choices_are_compared(ran: dict[str, Any]) -> None:
    """Every patch is its own measure; fewer tokens say something else."""
    head, *rows = printed(ran["ask"]).splitlines()
    assert head.split() == ["choice", "tokens", "KL", "answer"]
    kl = {row.split("  ")[0]: float(row[len(row.split("  ")[0]) :].split()[1]) for row in rows}
    assert list(kl) == [
        "every patch",
        "VisionZip",
        "the best by attention",
        "the ball",
        "and the rest, merged",
        "a band, and [CLS]",
        "nothing",
    ]
    assert kl["every patch"] == 0
    assert all(value > 0 for name, value in kl.items() if name != "every patch")


def test_it_is_kept_without_outputs() -> None:
    """They would grow the repository with every run; who opens it has them in seconds."""
    code = [cell for cell in read()["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert NOTEBOOK.stat().st_size < 32_000


def test_it_is_a_valid_notebook() -> None:
    """By nbformat's schema, with an id of every cell."""
    notebook = read()
    nbformat.validate(notebook)  # type: ignore[no-untyped-call]
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
