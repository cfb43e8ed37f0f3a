"""`--save NAME=FILE.png` and `--save FOLDER`: pictures among the results, put down as PNG files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from ..errors import GraphError, did_you_mean
from ..fit import bare, is_union
from ..pictures import write_png
from ..plan import Plan
from ..report.recipe import recipe_text
from ..result import Result
from ..values import Picture


def save_targets(words: Sequence[str], plan: Plan) -> list[tuple[str, Path]]:
    """Which results are to be saved, and in which files; makes missing folders.

    Errors: GraphError for what cannot be saved or written, before anything runs.
    """
    pictures = [name for name in plan.outputs if _is_picture(plan, name)]
    out: list[tuple[str, Path]] = []
    for word in words:
        name, given, file = word.partition("=")
        if given:
            _check_name(word, name, pictures, plan)
            _check_file(word, Path(file))
            found = [(name, Path(file))]
        else:
            found = [(name, Path(word) / f"{name}.png") for name in pictures]
            if not found:
                raise GraphError(f"--save {word}: {_nothing(plan)}")
            _make_folder(word)
        for pair in found:
            _check_free(word, pair[1], [path for _, path in out], plan)
            out.append(pair)
    return out


def save(targets: Sequence[tuple[str, Path]], result: Result) -> dict[str, str]:
    """Write the pictures, each with the recipe of the run inside; paths by name. Errors: GraphError."""
    for name, path in targets:
        try:
            write_png(result[name], path, recipe_text(result.plan, name))
        except OSError as error:
            raise GraphError(f"--save {name}={path}: cannot be written: {error.strerror}") from None
    return {name: str(path) for name, path in targets}


def _is_picture(plan: Plan, name: str) -> bool:
    slot = plan.outputs[name]
    kinds = [step.step.type.outputs.get(plan.fields[slot]) for step in plan.steps if slot in step.outs]
    return any(_holds_picture(kind) for kind in kinds if kind is not None)


def _holds_picture(kind: Any) -> bool:
    kind = bare(kind)
    members = get_args(kind) if is_union(kind) else (kind,)
    return any(isinstance(member, type) and issubclass(member, Picture) for member in members)


def _check_name(word: str, name: str, pictures: Sequence[str], plan: Plan) -> None:
    if name in pictures:
        return
    if not pictures:
        raise GraphError(f"--save {word}: {_nothing(plan)}")
    if name in plan.outputs:
        raise GraphError(f"--save {word}: {name} is no picture; pictures are {', '.join(pictures)}")
    raise GraphError(f"--save {word}: no result is called {name!r}{did_you_mean(name, pictures)}")


def _nothing(plan: Plan) -> str:
    names = ", ".join(plan.outputs)
    return (
        f"none of the results ({names}) is a picture; add a node such as overlay_tokens to the graph, and "
        "make it an output"
    )


def _check_file(word: str, path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise GraphError(f"--save {word}: wants a file name that ends in .png, or a folder without NAME=")
    if path.is_dir():
        raise GraphError(f"--save {word}: cannot be written: {path} is a folder")
    if not path.parent.is_dir():
        raise GraphError(f"--save {word}: cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise GraphError(f"--save {word}: cannot be written: Permission denied")


def _make_folder(word: str) -> None:
    """A folder may be missing, a file of its name may not be there."""
    path = Path(word)
    if path.suffix.lower() == ".png" and not path.is_dir():
        raise GraphError(f"--save {word}: wants NAME=FILE.png, with the name of a result, or a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GraphError(f"--save {word}: cannot be a folder: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise GraphError(f"--save {word}: cannot be written: Permission denied")


def _check_free(word: str, path: Path, taken: Sequence[Path], plan: Plan) -> None:
    """No other result goes to this file, and the run does not read it."""
    if any(os.path.abspath(other) == os.path.abspath(path) for other in taken):
        raise GraphError(f"--save {word}: {path} is given for another picture already")
    for name, value in plan.params.items():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, str | Path) and path.exists() and _same(path, one):
                raise GraphError(f"--save {word}: {path} is read by this run ({name}); save to another file")


def _same(path: Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
