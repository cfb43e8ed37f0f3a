"""What became of an item as a row, and its pictures and tensors as files beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from safetensors.torch import save as tensor_bytes

from ..pictures import png_bytes
from ..plain import as_json
from ..report.recipe import recipe_text
from ..rows import Row
from ..store import Unstorable, pack
from ..values import Answer, Picture
from .executor import Done
from .failure import Failure
from .folder import Folder


def row_of(done: Done, files: dict[str, str] | None = None) -> Row:
    """The row of an item. files: what was saved of it, by output."""
    task = done.task
    head: Row = {"index": task.index, "id": task.id}
    if done.failure is not None:
        head["error"] = done.failure.plain()
    else:
        answer = done.outputs.get("answer")
        if isinstance(answer, Answer | str):
            head["answer"] = answer.text if isinstance(answer, Answer) else answer
        head["outputs"] = {name: as_json(value) for name, value in done.outputs.items()}
        if files:
            head["files"] = files
    flops = [] if done.result is None else [row.flops for row in done.result.report if row.flops is not None]
    return {
        **head,
        "inputs": dict(task.given),
        "expected": None if task.expected is None else list(task.expected),
        "kind": task.kind,
        "where": task.where,
        "digest": task.digest,
        "tries": done.tries,
        "flops": sum(flops) if flops else None,
        "seconds": round(done.seconds, 6),
    }


def recorded(done: Done, folder: Folder, names: Sequence[str]) -> tuple[Done, Row]:
    """The row of an item whose outputs `names` are saved; what cannot be saved is a failure of the item.

    Errors: MapError for a disk that takes nothing more.
    """
    if done.result is None:
        return done, row_of(done)
    files: dict[str, str] = {}
    for name in names:
        try:
            suffix, data = _file(done, name)
        except Unstorable as error:
            failed = replace(done, result=None, failure=Failure.of(error, "save"), error=error)
            return failed, row_of(failed)
        if data:
            files[name] = folder.save(done.task.index, f"{_plain(name)}.{suffix}", data)
    return done, row_of(done, files)


def _file(done: Done, name: str) -> tuple[str, bytes]:
    """The suffix and the bytes of an output: PNG, or safetensors with the value's tree as `tree`.

    b"" for what holds no tensor: the row says it all. Errors: Unstorable.
    """
    assert done.result is not None
    value: Any = done.outputs[name]
    if isinstance(value, Picture):
        return "png", png_bytes(value, recipe_text(done.result.plan, name))
    packed = pack(value)
    if not packed.tensors:
        return "", b""
    return "safetensors", tensor_bytes(dict(packed.tensors), {"tree": json.dumps(packed.tree)})


def _plain(name: str) -> str:
    return name.replace("/", "-")
