"""`tokenloom doctor`: versions, devices, decoders and folders, ready to paste into a bug report."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path

import typer

PACKAGES = ("torch", "transformers", "huggingface-hub", "safetensors", "tokenizers", "numpy", "pillow")
TOOLS = ("networkx", "pyyaml", "rich", "typer")
RANGES = {"torch": ("2.9", "2.14"), "transformers": ("5.5", "6")}  # from pyproject: first, first not
VARIABLES = (
    "TOKENLOOM_CACHE", "TOKENLOOM_CHECKPOINTS", "TOKENLOOM_DECODE", "TOKENLOOM_DECODE_TIMEOUT", "HF_HOME",
    "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
)  # fmt: skip
SECRETS = ("HF_TOKEN",)

Line = tuple[str, str, bool]  # name, text, whether it is as it should be


def doctor(checkpoints: Sequence[str] = ()) -> bool:
    """Print one line per fact; True when nothing is wrong. What is wrong is marked with `!`.

    checkpoints: folders or names to look at instead, without reading weights.
    """
    lines = [line for name in checkpoints for line in checkpoint_facts(name)] or list(facts())
    width = max(len(name) for name, _, _ in lines)
    for name, text, good in lines:
        typer.echo(f"{' ' if good else '!'} {name.ljust(width)}  {text}")
    bad = [name for name, _, good in lines if not good]
    typer.echo("\n" + (f"to mend: {', '.join(bad)}" if bad else "all is well"))
    return not bad


def facts() -> Iterator[Line]:
    """All facts, in order."""
    from ..version import __version__

    yield "tokenloom", f"{__version__}, {Path(__file__).parents[2]}", True
    yield "python", f"{platform.python_version()}, {sys.executable}", sys.version_info >= (3, 11)
    yield "system", f"{platform.platform()}, {os.cpu_count()} cores", True
    for name in PACKAGES:
        yield _version(name)
    yield "others", ", ".join(f"{name} {_installed(name) or 'missing'}" for name in TOOLS), True
    yield from _devices()
    yield _decoder("decord", "decord2")
    yield _decoder("av", "av")
    yield _torchvision()
    yield from _cache()
    yield from _nodes()
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name], True
    for name in SECRETS:
        yield name, "set" if os.environ.get(name) else "not set", True


def checkpoint_facts(checkpoint: str) -> Iterator[Line]:
    """What a checkpoint is, and what is taken on trust."""
    from ..errors import LoomError
    from ..models.describe import describe_model

    try:
        handle = describe_model(checkpoint).projector
    except LoomError as error:
        yield checkpoint, str(error), False
        return
    tower, projector, language = handle.facts.tower, handle.facts.projector, handle.facts.language
    assert tower is not None
    assert projector is not None
    assert language is not None
    yield checkpoint, handle.folder, True
    yield "tower", f"{tower.family}, {tower.depth} layers of {tower.hidden}", True
    yield "projector", f"{projector.kind}, from {projector.inputs} to {projector.outputs}", True
    for note in tower.notes:
        yield "on trust", note, True
    for note in projector.notes:
        yield "on trust", note, projector.scale_factor is not None
    yield "language", f"{language.family}, {language.depth} layers of {language.hidden}", True


def probe(module: str) -> str | None:
    """What goes wrong when a fresh Python imports `module`, on one line; None when it works.

    Not imported here: a broken compiled module may take the process with it, and torchvision pulls in a lot.
    """
    code = f"import {module}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _version(name: str) -> Line:
    found = _installed(name)
    if found is None:
        return name, f"missing; pip install {name}", False
    if name in RANGES and not _number(RANGES[name][0]) <= _number(found) < _number(RANGES[name][1]):
        first, end = RANGES[name]
        return name, f"{found}, wanted >={first},<{end}; pip install '{name}>={first},<{end}'", False
    return name, found, True


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())


def _devices() -> Iterator[Line]:
    try:
        import torch
    except ImportError as error:
        yield "device", f"torch cannot be imported: {error}", False
        return
    yield "threads", f"{torch.get_num_threads()}", True
    if not torch.cuda.is_available():
        mps = torch.backends.mps.is_available()
        yield "device", "mps" if mps else f"cpu (torch built for CUDA {torch.version.cuda or 'none'})", True
        return
    for i in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(i)
        free = torch.cuda.mem_get_info(i)[0]
        bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
        memory = f"{free / 1e9:.1f} of {card.total_memory / 1e9:.1f} GB free"
        yield f"cuda:{i}", f"{card.name}, {memory}, sm_{card.major}{card.minor}, {bf16}", True


def _decoder(module: str, package: str) -> Line:
    if util.find_spec(module) is None:
        return module, f"missing; pip install {package}", False
    problem = probe(module)
    version = _installed(package) or "?"
    return (
        (module, version, True)
        if problem is None
        else (module, f"{version}, broken: {problem}; pip install --force-reinstall {package}", False)
    )


def _torchvision() -> Line:
    """Not needed; but a broken one makes parts of transformers fail to import."""
    if util.find_spec("torchvision") is None:
        return "torchvision", "not installed, and not needed", True
    version = _installed("torchvision") or "?"
    problem = probe("torchvision")
    if problem is None:
        return "torchvision", f"{version}, not needed", True
    return "torchvision", f"{version}, broken: {problem}; not needed: pip uninstall torchvision", False


def _cache() -> Iterator[Line]:
    from ..cache import default_cache, default_folder
    from .show import size_text

    folder = default_folder()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield "cache", f"{folder} cannot be written; set TOKENLOOM_CACHE", False
        return
    entries = default_cache().entries()
    held = size_text(sum(entry.bytes for entry in entries))
    free = size_text(shutil.disk_usage(there).free)
    yield "cache", f"{folder}, {len(entries)} values, {held}; {free} free on the disk", True


def _nodes() -> Iterator[Line]:
    from ..layers import builtin_graphs
    from ..registry import all_nodes

    try:
        found = all_nodes()
    except Exception as error:
        notes = "; ".join(getattr(error, "__notes__", ()))
        yield "nodes", f"{type(error).__name__}: {error}{f' ({notes})' if notes else ''}", False
        return
    plugins = {made.fn.__module__.split(".")[0] for made in found.values()} - {"tokenloom"}
    more = f", plug-ins: {', '.join(sorted(plugins))}" if plugins else ""
    yield "nodes", f"{len(found)}{more}", True
    yield "graphs", ", ".join(name for name in builtin_graphs() if "/" not in name), True
