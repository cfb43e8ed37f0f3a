"""`tokenloom convert SRC DST`: pickled weights become safetensors, once, without running what a pickle says.

The result appears whole or not at all: everything is written to a folder beside DST, which is renamed last.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from .configs import read_json
from .headers import INDEX, PICKLED, has_weights, pickled_in
from .hub import resolve

MAX_SHARD = 5 * 10**9  # bytes
NOT_WEIGHTS = ("training_args.bin", "optimizer", "scheduler", "rng_state", "scaler")
COPIED = (".json", ".model", ".txt", ".jinja", ".md")

Progress = Callable[[int, int, str], None]


def convert(
    source: str,
    target: str | Path,
    *,
    max_shard: int = MAX_SHARD,
    progress: Progress | None = None,
) -> Path:
    """Write the weights of `source` as safetensors into a new folder, with its other files.

    source: a folder, one `.bin` or `.pth` file, or a hub id. max_shard: bytes of one written file; one tensor
    may be larger. progress: called with files done, files in all, and the file's name.
    Errors: CheckpointError for an existing target, nothing to convert, a missing shard, or a pickle that
    holds anything but tensors.
    """
    target = Path(os.path.expanduser(target))
    if target.exists() or target.is_symlink():
        raise CheckpointError(f"{target}: exists already; convert writes a new folder, choose another name")
    file = Path(os.path.expanduser(source))
    folder = file.resolve().parent if file.is_file() else resolve(source, pickled=True)
    files = [file.resolve()] if file.is_file() else _pickles(folder, source)
    with _new_folder(target) as work:
        if not file.is_file():
            _copy_small(folder, work)
        name = "mm_projector" if all("mm_projector" in f.name for f in files) else "model"
        writer = _Shards(work, name, max_shard)
        for i, pickled in enumerate(files):
            writer.add(_tensors(pickled))
            if progress is not None:
                progress(i + 1, len(files), pickled.name)
        writer.finish()
    return target


def _pickles(folder: Path, source: str) -> list[Path]:
    """The weight files of a folder, those of its index if it has one."""
    indexes = sorted(folder.glob("*.bin.index.json"))
    if indexes:
        places = read_json(indexes[0]).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise CheckpointError(
                f"{indexes[0]}: not an index; wanted JSON with a weight_map from tensor names to files; "
                f"download it again"
            )
        names = sorted({str(name) for name in places.values()})
        if bad := [name for name in names if Path(name).name != name or "\\" in name]:
            raise CheckpointError(
                f"{indexes[0]}: points to {bad[0]!r}, and is refused; a shard lies in the checkpoint's own "
                f"folder"
            )
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise CheckpointError(
                f"{indexes[0]}: {len(missing)} of {len(names)} shards missing: {', '.join(missing)}; "
                f"download them again"
            )
        return [folder / name for name in names]
    files = sorted(f for f in folder.iterdir() if f.suffix in PICKLED and not f.name.startswith(NOT_WEIGHTS))
    if files:  # original folders hold the projector a second time, as mm_projector.bin
        return [f for f in files if f.name.startswith("pytorch_model")] or files
    what = "its weights are safetensors already" if has_weights(folder) else "no .bin or .pth file there"
    raise CheckpointError(f"{source}: nothing to convert, {what}")


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of one pickle, read by torch's restricted unpickler; other plain values are left out."""
    try:
        value: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")
        wanted = next(
            (line.strip() for line in reason if "GLOBAL" in line or "Unsupported" in line), reason[0]
        )
        raise CheckpointError(
            f"{file}: refused, this pickle holds more than tensors and could run code when read "
            f"({wanted[:200]}); get the weights as safetensors from someone you trust"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file}: not a readable torch file ({error}); download it again") from error
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    found = {name: t for name, t in value.items() if isinstance(t, Tensor)} if isinstance(value, dict) else {}
    if not found:
        raise CheckpointError(f"{file}: holds a {type(value).__name__} without tensors, wanted a state dict")
    return found


def _is_pickle(name: str) -> bool:
    return name.endswith(PICKLED)


def _is_zip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == b"PK"


class _Shards:
    """Collects tensors and writes them in files of at most `limit` bytes."""

    def __init__(self, folder: Path, name: str, limit: int) -> None:
        self.folder, self.name, self.limit = folder, name, limit
        self.pending: dict[str, Tensor] = {}
        self.places: dict[str, int] = {}  # tensor name -> shard number
        self.size = self.total = self.count = 0

    def add(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if name in self.places or name in self.pending:
                raise CheckpointError(f"{name} is in two of the files; convert one checkpoint at a time")
            if self.pending and self.size + tensor.nbytes > self.limit:
                self._write()
            # a copy: views of one storage (tied or sliced tensors) become tensors of their own
            self.pending[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
            self.size += tensor.nbytes

    def _write(self) -> None:
        self.count += 1
        save_file(self.pending, str(self._file(self.count)), metadata={"format": "pt"})
        os.chmod(self._file(self.count), 0o644)  # safetensors writes for its owner alone
        self.places |= dict.fromkeys(self.pending, self.count)
        self.total += self.size
        self.pending, self.size = {}, 0

    def finish(self) -> None:
        if self.pending:
            self._write()
        if self.count == 1:
            self._file(1).rename(self.folder / f"{self.name}.safetensors")
            return
        names = {i: f"model-{i:05}-of-{self.count:05}.safetensors" for i in range(1, self.count + 1)}
        for i, name in names.items():
            self._file(i).rename(self.folder / name)
        index = {
            "metadata": {"total_size": self.total},
            "weight_map": {name: names[i] for name, i in sorted(self.places.items())},
        }
        (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _file(self, number: int) -> Path:
        return self.folder / f".shard-{number:05}"


def _copy_small(folder: Path, work: Path) -> None:
    """Configuration and tokenizer, and a tower in a subfolder; no pickles and no old index."""
    for item in sorted(folder.iterdir()):
        if item.is_dir() and (item / "config.json").is_file():
            if has_weights(item) or not pickled_in(item):  # or its weights lie in the checkpoint
                shutil.copytree(
                    item, work / item.name, ignore=lambda _, names: list(filter(_is_pickle, names))
                )
            else:
                convert(str(item), work / item.name)
        elif item.suffix in COPIED and not item.name.endswith(".index.json"):
            shutil.copyfile(item, work / item.name)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends well and disappears when it does not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", dir=target.parent))
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        yield work
        os.chmod(work, 0o755)
        if target.exists():
            raise CheckpointError(f"{target}: was made by someone else meanwhile; choose another name")
        work.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise CheckpointError(f"{target}: cannot be written ({error}); nothing was left there") from error
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _sweep(target: Path) -> None:
    """Remove what a killed conversion to the same target left; those still running are left alone."""
    for left in target.parent.glob(f".{target.name}.*.*"):
        number = left.name.removeprefix(f".{target.name}.").split(".")[0]
        if left.is_dir() and number.isdigit() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


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
