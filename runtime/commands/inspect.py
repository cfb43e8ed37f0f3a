"""`tokenloom inspect`: the tensors of a checkpoint, its configuration, and what no name map covers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

import typer

from ..errors import CheckpointError
from ..models.configs import read_json
from ..models.hub import by_name, resolve
from ..models.inspection import Group, Inspection, inspect_folder, inspect_headers
from ..models.remote import remote_headers
from .show import on_terminal, show_table, size_text

SILENT: tuple[Any, ...] = (None, "", [], {})
# what old transformers wrote into every configuration: how to generate, labels, pruning
USUAL = """
    add_cross_attention bad_words_ids begin_suppress_tokens chunk_size_feed_forward
    cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id id2label is_decoder is_encoder_decoder label2id length_penalty max_length min_length
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_scores prefix problem_type pruned_heads remove_invalid_values
    repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens task_specific_params
    temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torchscript typical_p
    use_bfloat16
"""
COLUMNS = ("name", "shape", "dtype", "count", "parameters")
ORDER = ("tower", "image_tower", "projector", "newline", "language", "ignored", "")
UNTRIED = "only headers were read; whether load_model takes it shows once the weights are here"
LONGEST = 160  # characters of a line of an error
WIDTH = 100  # of a paragraph, where the terminal allows
GAP = 3  # columns between two cells


def inspect(checkpoint: str, revision: str | None = None, *, as_json: bool = False) -> None:
    """Print what the headers and the configuration of a checkpoint say; no weights are read."""
    folder = resolve(checkpoint, revision, weights=False)
    config = read_json(folder / "config.json")
    if _only_on_the_hub(checkpoint, folder):
        found = inspect_headers(remote_headers(checkpoint, revision), folder, config)
        node, problem = "", UNTRIED
    else:
        found = inspect_folder(folder, checkpoint, config)
        node, problem = reader(folder, checkpoint, found)
    if as_json:
        typer.echo(json.dumps(plain(checkpoint, folder, found, config, node, problem), ensure_ascii=False))
        return
    files = "1 file" if len(found.files) == 1 else f"{len(found.files)} files"
    typer.echo(f"{_bold(checkpoint)}: {totals(found.groups)} in {files}\n  {folder}")
    width = min(get_terminal_size().columns - 2, WIDTH) if on_terminal() else WIDTH
    for line in settings(config, width=width) or ["no config.json"]:
        typer.echo(f"  {line}")
    typer.echo("")
    claims = dict.fromkeys((group.part, group.family) for group in found.groups)
    for part, family in sorted(claims, key=lambda claim: ORDER.index(claim[0])):
        show_part(
            part, family, [group for group in found.groups if (group.part, group.family) == (part, family)]
        )
    typer.echo(verdict(node, problem, found.problems))


def _only_on_the_hub(checkpoint: str, folder: Path) -> bool:
    """Whether it is a hub id of which no weights are here; `folder` has its other files."""
    local = Path(checkpoint).expanduser().is_dir() or checkpoint in by_name()
    return not local and not any(folder.glob("*.safetensors"))


def reader(folder: Path, shown: str, found: Inspection) -> tuple[str, str]:
    """The node that is for such a checkpoint, and why it does not take it ("" when it does)."""
    from ..models.checkpoint import open_checkpoint, open_tower
    from ..models.describe import open_projector_at

    parts = {group.part for group in found.groups} - {"", "ignored", "newline"}
    read: Callable[[], object]
    if parts == {"projector"}:
        node, read = "load_projector", lambda: open_projector_at(folder, "", shown, None)
    elif parts == {"tower"}:
        node, read = "load_vision_tower", lambda: open_tower(folder, shown, -1, "patch")
    else:
        node, read = "load_model", lambda: open_checkpoint(folder, shown)
    try:
        read()
    except CheckpointError as error:
        return node, str(error)
    return node, ""


def totals(groups: Sequence[Group]) -> str:
    """`573 tensors, 9.55 B parameters, 19.1 GB of BF16`."""
    tensors = sum(group.count for group in groups)
    kinds = ", ".join(dict.fromkeys(group.dtype for group in groups))
    size = size_text(sum(group.bytes for group in groups))
    noun = "tensor" if tensors == 1 else "tensors"
    return (
        f"{tensors} {noun}, {number(sum(group.parameters for group in groups))} parameters, {size} of {kinds}"
    )


def settings(config: Mapping[str, Any], name: str = "", width: int = WIDTH) -> list[str]:
    """The fields of a configuration that say something, one paragraph for each nested mapping."""
    plain_ones, nested = [], []
    for key, value in config.items():
        if isinstance(value, dict) and value and any(isinstance(v, dict | list) or v for v in value.values()):
            nested.append((key, value))
        elif key not in USUAL.split() and value not in SILENT:
            plain_ones.append(f"{key} {_short(value)}")
    lines = wrap(", ".join(plain_ones), width, break_long_words=False, subsequent_indent="  ")
    if name and lines:
        lines = wrap(
            f"{name}: " + ", ".join(plain_ones), width, break_long_words=False, subsequent_indent="  "
        )
    for key, value in nested:
        if key not in USUAL.split():
            lines += settings(value, f"{name}.{key}" if name else key, width)
    return lines


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def show_part(part: str, family: str, groups: Sequence[Group]) -> None:
    """Print a table of what one map covers, a row per group; part "": of what none covers."""
    title = f"{part.replace('_', ' ')}, {family}" if part else "no name map covers these"
    rows: list[Sequence[str]] = [
        (
            group.names,
            "x".join(map(str, group.shape)) or "()",
            group.dtype,
            str(group.count),
            number(group.parameters),
        )
        for group in groups
    ]
    typer.echo(f"{_bold(title)}: {totals(groups)}")
    columns: Sequence[str] = COLUMNS
    width = sum(max(map(len, cells)) + GAP for cells in zip(columns, *rows, strict=True))
    if on_terminal() and width > get_terminal_size().columns:  # names are for reading, not for wrapping
        columns, rows = _slim(columns), [_slim(row) for row in rows]
    show_table(columns, rows, right=("count", "parameters"))
    typer.echo("")


def verdict(node: str, problem: str, of_files: Sequence[str]) -> str:
    """Which node takes it, or why none does; long lists are cut short, since the tables have them."""
    lines = [f"! {one}" for one in of_files if one != problem]
    if problem and not node:
        lines.append(problem)
    elif problem:
        cut = [f"{line[:LONGEST]} ..." if len(line) > LONGEST else line for line in problem.splitlines()]
        lines.append(f"{node} refuses it: " + "\n".join(cut))
    else:
        lines.append(f"{node} takes it")
    text, colour = "\n".join(lines), "red" if problem else "green"
    return typer.style(text, fg=colour if node else "yellow") if on_terminal() else text


def _slim(cells: Sequence[str]) -> Sequence[str]:
    """Name, shape and count."""
    return [*cells[:2], cells[3]]


def _bold(text: str) -> str:
    return typer.style(text, bold=True) if on_terminal() else text


def number(count: int) -> str:
    """`812`, `76.9 M`, `9.55 B`."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.{2 if count < 10 * size else 1}f} {unit}"
    return str(count)


def plain(
    checkpoint: str, folder: Path, found: Inspection, config: Mapping[str, Any], node: str, problem: str
) -> dict[str, Any]:
    """All of it as one JSON object."""
    groups = [
        {**asdict(group), "shape": list(group.shape), "parameters": group.parameters, "bytes": group.bytes}
        for group in found.groups
    ]
    return {
        "ok": True,
        "checkpoint": checkpoint,
        "folder": str(folder),
        "files": dict(found.files),
        "tensors": sum(group.count for group in found.groups),
        "parameters": sum(group.parameters for group in found.groups),
        "bytes": sum(group.bytes for group in found.groups),
        "groups": [group for group in groups if group["part"]],
        "unknown": [group for group in groups if not group["part"]],
        "config": config,
        "taken_by": "" if problem else node,
        "problem": problem,
        "file_problems": list(found.problems),
    }
