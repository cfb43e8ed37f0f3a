"""`tokenloom train`: a recipe in, a checkpoint out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import typer

from ..errors import LoomError
from .guard import Phase


def train(
    recipe: Path, out: Path | None, phase: Phase, *, resume: bool, until: str | None, device: str, quiet: bool
) -> None:
    """Train what the recipe says, and print where the checkpoint is. out: RECIPE's name, without `.yaml`."""
    if find_spec("accelerate") is None:
        raise LoomError("training needs accelerate; install it with: pip install 'tokenloom[train]'")
    from ..tiny.recipe_file import read_recipe
    from ..tiny.trainer import stops_gently
    from ..tiny.training import Run

    run = Run(read_recipe(recipe), out or Path(recipe.stem), device=device, quiet=quiet)
    run.open(resume=resume, until=until)
    phase.running = True
    with run.machine(), stops_gently(run.journal.say):
        made = run.train(until)
    if made is not None:
        typer.echo(f"{made}")
