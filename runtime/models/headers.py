"""What a folder of safetensors says it holds: names, shapes and dtypes, read from the headers alone.

Nothing here reads weights, so a whole 13B checkpoint is looked through in milliseconds.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = ("model.safetensors", "mm_projector.safetensors")
PICKLED = (".bin", ".pth", ".pt", ".ckpt")
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_SHARD = re.compile(r"model-(?!00000)\d{5}-of-(?!00000)\d{5}\.safetensors")
_HEADER_LIMIT = 100_000_000  # bytes; the limit of the format itself


@dataclass(frozen=True)
class Rows:
    """Some rows of a packed tensor: its first axis in `groups` equal groups, rows start..stop-1 of each."""

    groups: int
    start: int
    stop: int


@dataclass(frozen=True)
class Stored:
    """One tensor on disk: its name there, its file, dtype (`F16`) and shape.

    rows: it is only these rows of the tensor of that name; `shape` is theirs.
    """

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    rows: Rows | None = None

    def part(self, rows: Rows) -> Stored:
        """These rows of it."""
        count = rows.groups * (rows.stop - rows.start)
        return replace(self, shape=(count, *self.shape[1:]), rows=rows)


def read_header(file: Path) -> dict[str, Stored]:
    """The tensors of one safetensors file, by name.

    Errors: CheckpointError when the file is missing, truncated, or no safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(_HEADER_LIMIT, size - 8):
                raise _nonsense(file, f"a header of {length} bytes in a file of {size}")
            raw = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror or error})") from error
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise _nonsense(file, "a header that is not JSON") from None
    if not isinstance(header, dict):
        raise _nonsense(file, "a header that is not a mapping")
    header.pop("__metadata__", None)
    spans = [_check_entry(file, name, entry) for name, entry in header.items()]
    _check_spans(file, size - 8 - length, spans)
    return {name: Stored(name, file, entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}


def stored_in(folder: Path, shown: str = "", target: str = "") -> dict[str, Stored]:
    """Every tensor of a checkpoint folder, sharded or not.

    shown: what the user called it. target: where a conversion of pickled weights should go.

    Errors: CheckpointError for a missing or truncated shard, an index that points elsewhere or lies, shards
    without an index beside a model.safetensors, and for a folder that only has pickled weights.
    """
    if (folder / INDEX).is_file():
        return _sharded(folder)
    if shards := _numbered(folder):
        return _without_index(folder, shards)
    for name in SINGLE:
        if (folder / name).is_file():
            return read_header(folder / name)
    raise _without_weights(folder, shown or str(folder), target)


def has_weights(folder: Path) -> bool:
    """True when the folder holds safetensors weights of its own."""
    return any((folder / name).is_file() for name in (INDEX, *SINGLE)) or bool(_numbered(folder))


def _numbered(folder: Path) -> list[str]:
    """Names of the shards that the folder holds."""
    return sorted(file.name for file in folder.glob("model-*.safetensors") if _SHARD.fullmatch(file.name))


def _without_index(folder: Path, shards: list[str]) -> dict[str, Stored]:
    """Shards as PLLaVA's are saved: their own names say how many they are."""
    if (folder / SINGLE[0]).is_file():
        raise CheckpointError(
            f"{folder}: both {SINGLE[0]} and {shards[0]}, without {INDEX}; remove what does not belong there"
        )
    counts = sorted({name[-17:-12] for name in shards})
    if len(counts) > 1:
        raise CheckpointError(
            f"{folder}: shards of different checkpoints, of {' and of '.join(str(int(n)) for n in counts)}; "
            f"remove what does not belong there"
        )
    whole = [f"model-{i + 1:05}-of-{counts[0]}.safetensors" for i in range(int(counts[0]))]
    if missing := [name for name in whole if name not in shards]:
        raise CheckpointError(
            f"{folder}: {len(missing)} of {len(whole)} shards missing: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}; download them again"
        )
    found: dict[str, Stored] = {}
    for shard in whole:
        header = read_header(folder / shard)
        if twice := sorted(header.keys() & found.keys()):
            raise CheckpointError(
                f"{folder}: {twice[0]} is in {found[twice[0]].file.name} and in {shard}; the shards do not "
                f"belong together"
            )
        found |= header
    return found


def _sharded(folder: Path) -> dict[str, Stored]:
    where = folder / INDEX
    try:
        weight_map = json.loads(where.read_text(encoding="utf-8"))["weight_map"]
        files = {str(name): str(file) for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(
            f"{where}: not an index; wanted JSON with a weight_map from tensor names to files; "
            f"download it again"
        ) from None
    shards = sorted(set(files.values()))
    for shard in shards:
        if shard in ("", ".", "..") or "/" in shard or "\\" in shard or "\0" in shard or ":" in shard:
            raise CheckpointError(
                f"{where}: points to {shard!r}, and is refused; a shard lies in the checkpoint's own folder"
            )
    if missing := [shard for shard in shards if not (folder / shard).is_file()]:
        raise CheckpointError(
            f"{where}: {len(missing)} of {len(shards)} shards missing: {', '.join(missing)}; "
            f"download them again"
        )
    found: dict[str, Stored] = {}
    for shard in shards:
        for name, tensor in read_header(folder / shard).items():
            if files.get(name) != shard:
                raise CheckpointError(
                    f"{where}: {shard} holds {name}, which the index places in {files.get(name, 'no file')}; "
                    f"index and shards do not belong together"
                )
            found[name] = tensor
    if lost := sorted(set(files) - set(found)):
        raise CheckpointError(
            f"{where}: {len(lost)} tensors are not in the shards it names, first {lost[0]} in "
            f"{files[lost[0]]}; index and shards do not belong together"
        )
    return found


def _check_entry(file: Path, name: str, entry: Any) -> tuple[int, int]:
    """Start and end of one tensor's bytes, checked against its dtype and shape."""
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, end]
    except (TypeError, KeyError, ValueError):
        raise _nonsense(file, f"an entry for {name!r} without dtype, shape and data_offsets") from None
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise _nonsense(file, f"an entry for {name!r} with shape {shape} at bytes {start}..{end}")
    if dtype not in ITEM_BYTES:
        raise _nonsense(file, f"an entry for {name!r} with dtype {dtype!r}")
    if end - start != math.prod(shape) * ITEM_BYTES[dtype]:
        raise _nonsense(file, f"{end - start} bytes for {name!r}, {dtype} {list(shape)}")
    return start, end


def _check_spans(file: Path, available: int, spans: list[tuple[int, int]]) -> None:
    position = 0
    for start, end in sorted(spans):
        if start != position:
            raise _nonsense(file, f"tensors that overlap or leave a gap at byte {min(start, position)}")
        position = end
    if position > available:
        raise CheckpointError(
            f"{file}: truncated, {available} bytes of weights where its header tells of {position}; "
            f"download it again"
        )
    if position < available:
        raise _nonsense(file, f"{available - position} bytes that no tensor owns")


def _nonsense(file: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{file}: not a sound safetensors file, it has {what}; download it again")


def pickled_in(folder: Path) -> list[str]:
    """Names of the pickled weight files of a folder, or of those that its index tells of."""
    names = {f.name for f in folder.iterdir() if f.suffix in PICKLED and f.name != "training_args.bin"}
    names |= {f.name for f in folder.glob("*.bin.index.json")}
    return sorted(names)


def _without_weights(folder: Path, shown: str, target: str) -> CheckpointError:
    if shards := sorted(f.name for f in folder.glob("*.safetensors")):
        return CheckpointError(
            f"{shown}: {', '.join(shards[:3])}{', ...' if len(shards) > 3 else ''} but no {INDEX} and no "
            f"model.safetensors; add the index"
        )
    target = target or Path(shown).name + "-safetensors"
    command = f"tokenloom convert {shlex.quote(shown)} {shlex.quote(target)}"
    if pickled := pickled_in(folder):
        return CheckpointError(
            f"{shown}: only pickled weights ({', '.join(pickled[:3])}{', ...' if len(pickled) > 3 else ''}), "
            f"and reading a pickle can run code; write safetensors once with\n  {command}"
        )
    if not os.path.isdir(os.path.expanduser(shown)):  # pickled weights of a hub id are not downloaded
        return CheckpointError(
            f"{shown}: no safetensors there; if it has .bin files, write safetensors once with\n  {command}"
        )
    return CheckpointError(f"{shown}: no weights there; wanted model.safetensors or {INDEX}")
