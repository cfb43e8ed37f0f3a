"""Recipe files, in YAML: read with every mistake of the file at once, each with its place.

tokenloom: 1
title: Shapes, seen by a tower and told by a Llama
kind: llava
stages:
  - name: eyes
    steps: 500
    batch: 64
    losses: {patch: 1, cls: 0.3}
    muon: 0.02
    adamw: 0.001
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import GraphError, did_you_mean
from ..excerpt import FileProblem, GraphFileError, source_lines
from ..layers import VERSION, kind_text
from ..yamltree import MOST_BYTES, Broken, Marked, decode, tree
from .recipe import (
    KINDS_OF_MODEL,
    LEAST_LAYERS,
    MOST_SAMPLES,
    PARTS,
    PRECISIONS,
    Losses,
    Recipe,
    Sizes,
    Stage,
    names,
)

Tree = Mapping[str, Marked]
ABOVE_0, FROM_0 = "above 0", "0 or more"
MOST_FRAMES = 64


def read_recipe(path: str | Path) -> Recipe:
    """The recipe of a file. Errors: GraphFileError with every mistake, its place, line and suggestion."""
    shown = os.fspath(path)
    problems: list[FileProblem] = []
    text = ""
    try:
        with open(shown, "rb") as file:
            text = decode(shown, file.read(MOST_BYTES + 1), problems.append)
        found = _Reader(shown, text, problems).recipe(tree(shown, text, problems.append))
    except Broken:
        found = None
    except OSError as error:
        raise GraphError(f"{shown}: cannot be read: {error.strerror}") from None
    if problems or found is None:
        raise GraphFileError(problems, {shown: source_lines(text)})
    return found


@dataclass
class _Reader:
    """Checks the keys one by one; mistakes are noted, and a default stands in so that reading goes on."""

    path: str
    text: str
    problems: list[FileProblem]

    def recipe(self, root: Marked) -> Recipe | None:
        if not isinstance(root.value, dict):
            self._say(root, "a recipe is a mapping that starts with 'tokenloom: 1'")
            return None
        top: Tree = root.value
        self._known(top, ("tokenloom", *names(Recipe)), "at the top of a recipe")
        version = top.get("tokenloom")
        if version is None or version.value != VERSION:
            self._say(
                version or root, "the version is missing or unknown: a recipe starts with 'tokenloom: 1'"
            )
        kind = self._one_of(top, "kind", KINDS_OF_MODEL, "llava")
        return Recipe(
            title=self._text(top, "title"),
            kind=kind,  # type: ignore[arg-type]
            seed=self._whole(top, "seed", 0, least=0),
            sizes=self._sizes(top, kind),
            start=self._start(top),
            precision=self._one_of(top, "precision", PRECISIONS, "bf16"),  # type: ignore[arg-type]
            threads=self._whole(top, "threads", 1, least=0),
            workers=self._whole(top, "workers", 0, least=0),
            save_every=self._whole(top, "save_every", 200),
            log_every=self._whole(top, "log_every", 50),
            stages=self._stages(root, top, kind),
            path=Path(self.path),
            text=self.text,
        )

    def _stages(self, root: Marked, top: Tree, kind: str) -> tuple[Stage, ...]:
        told = top.get("stages")
        if told is None or not isinstance(told.value, list) or not told.value:
            self._say(told or root, f"stages: wants a list of stages, got {_got(told)}")
            return ()
        found: list[Stage] = []
        for one in told.value:
            if not isinstance(one.value, dict):
                self._say(one, f"stages: wants a mapping for each stage, got {_got(one)}")
                continue
            stage = self._stage(one, one.value, kind)
            if stage.name in [other.name for other in found]:
                self._say(one.value["name"], f"name: {stage.name!r} is the name of an earlier stage")
            found.append(stage)
        return tuple(found)

    def _stage(self, at: Marked, top: Tree, kind: str) -> Stage:
        self._known(top, names(Stage), "in a stage")
        for name in ("name", "steps", "batch", "losses", "muon", "adamw"):
            if name not in top:
                self._say(at, f"this stage does not say {name!r}")
        steps, batch = self._whole(top, "steps", 1), self._whole(top, "batch", 1)
        if steps * batch > MOST_SAMPLES:
            self._say(top["steps"], f"{steps} steps of {batch} are more than {MOST_SAMPLES} samples")
        frames = {count: share for count, share in self._counts(top, "frames", float).items() if share} or {
            1: 1.0
        }
        losses = self._losses(at, top)
        if losses.change and set(frames) == {1}:
            self._say(
                top["losses"], "change: nothing changes in pictures; leave it out, or add clips to frames"
            )
        return Stage(
            name=self._name(top),
            steps=steps,
            batch=batch,
            frames=frames,
            questions=self._whole(top, "questions", 8),
            train=self._parts(top, kind),
            losses=losses,
            cls_warmup=self._number(top, "cls_warmup", 0.0, FROM_0, most=1.0),
            muon=self._number(top, "muon", 0.01),
            adamw=self._number(top, "adamw", 0.001),
            warmup=self._whole(top, "warmup", min(30, steps), least=0, most=steps),
            floor=self._number(top, "floor", 0.05, FROM_0, most=1.0),
            weight_decay=self._number(top, "weight_decay", 0.01, FROM_0),
            clip=self._number(top, "clip", 1.0),
            evaluate=self._counts(top, "evaluate", int) or {n: 256 if n == 1 else 128 for n in frames},
        )

    def _losses(self, at: Marked, top: Tree) -> Losses:
        told = self._mapping(top, "losses")
        self._known(told, names(Losses), "in losses")
        found = Losses(**{name: self._number(told, name, 0.0, FROM_0) for name in names(Losses)})
        if told and not any((found.lm, found.patch, found.cls, found.change)):
            self._say(top["losses"], "losses: all weights are 0, so nothing would be learnt")
        if found.change and not found.lm:
            self._say(top["losses"], "change: the language model tells it, which runs only with lm above 0")
        return found

    def _sizes(self, top: Tree, kind: str) -> Sizes:
        told = self._mapping(top, "sizes")
        self._known(told, names(Sizes), "in sizes")
        plain = Sizes()
        found = Sizes(**{name: self._whole(told, name, getattr(plain, name)) for name in names(Sizes)})
        for width, heads in (("vision_width", "vision_heads"), ("width", "heads")):
            if getattr(found, width) % (4 * getattr(found, heads)):
                self._say(told.get(width) or told[heads], f"sizes: {width} is no multiple of 4 times {heads}")
        if found.side != plain.side or found.side % found.patch:
            self._say(
                told.get("side") or told["patch"],
                f"sizes: pictures have {plain.side} pixels, and patches must divide them",
            )
        if found.vision_layers < LEAST_LAYERS[kind]:
            self._say(
                told["vision_layers"], f"sizes: a tower for {kind} has at least {LEAST_LAYERS[kind]} layers"
            )
        if found.motion_layer > found.layers:
            self._say(
                told.get("motion_layer") or told["layers"],
                f"sizes: motion_layer {found.motion_layer} of {found.layers} layers",
            )
        return found

    def _parts(self, top: Tree, kind: str) -> tuple[str, ...]:
        told = top.get("train")
        if told is None:
            return PARTS[kind]
        if not isinstance(told.value, list) or not told.value:
            self._say(told, f"train: wants a list of parts, got {_got(told)}")
            return PARTS[kind]
        for part in told.value:
            if part.value not in PARTS[kind]:
                self._say(
                    part,
                    f"train: {kind} has no part {part.value!r}{did_you_mean(str(part.value), PARTS[kind])}",
                )
        return tuple(str(part.value) for part in told.value)

    def _counts(self, top: Tree, name: str, kind: type[int] | type[float]) -> dict[int, Any]:
        """Numbers by number of frames."""
        found: dict[int, Any] = {}
        for key, value in self._mapping(top, name).items():
            if not key.isdigit() or not 1 <= int(key) <= MOST_FRAMES:
                self.problems.append(
                    FileProblem(value.key, f"{name}: {key!r} is no number of frames from 1 to {MOST_FRAMES}")
                )
            elif kind is int:
                found[int(key)] = self._checked_whole(value, f"{name}.{key}", 1, None, 1)
            else:
                found[int(key)] = self._checked_number(value, f"{name}.{key}", FROM_0, None, 1.0)
        if found and not any(found.values()):
            self._say(top[name], f"{name}: all are 0")
        return found

    def _start(self, top: Tree) -> Path | None:
        told = self._text(top, "start")
        if not told:
            return None
        return Path(os.path.relpath(os.path.join(os.path.dirname(self.path), os.path.expanduser(told))))

    def _name(self, top: Tree) -> str:
        found = self._text(top, "name")
        if "name" in top and not (found.isidentifier() or found.replace("-", "_").isidentifier()):
            self._say(top["name"], f"name: {found!r} names files; wanted letters, digits, - and _")
        return found

    def _say(self, value: Marked, message: str) -> None:
        self.problems.append(FileProblem(value.at, message))

    def _known(self, mapping: Tree, known: tuple[str, ...], where: str) -> None:
        for name, value in mapping.items():
            if name not in known:
                self.problems.append(
                    FileProblem(value.key, f"{name!r} is not known {where}{did_you_mean(name, known)}")
                )

    def _mapping(self, top: Tree, name: str) -> Tree:
        told = top.get(name)
        if told is None:
            return {}
        if not isinstance(told.value, dict):
            self._say(told, f"{name}: wants a mapping by name, got {_got(told)}")
            return {}
        found: Tree = told.value
        return found

    def _text(self, top: Tree, name: str) -> str:
        told = top.get(name)
        if told is None:
            return ""
        if not isinstance(told.value, str) or not told.value:
            self._say(told, f"{name}: wants a text, got {_got(told)}")
            return ""
        return told.value

    def _one_of(self, top: Tree, name: str, known: tuple[str, ...], default: str) -> str:
        told = top.get(name)
        if told is None:
            return default
        if told.value not in known:
            hint = did_you_mean(str(told.value), known)
            self._say(
                told, f"{name}: {told.value!r} is not one of {', '.join(known)}{hint * ('mean' in hint)}"
            )
            return default
        found: str = told.value
        return found

    def _whole(self, top: Tree, name: str, default: int, *, least: int = 1, most: int | None = None) -> int:
        told = top.get(name)
        return default if told is None else self._checked_whole(told, name, least, most, default)

    def _checked_whole(self, told: Marked, name: str, least: int, most: int | None, default: int) -> int:
        if type(told.value) is not int or told.value < least or (most is not None and told.value > most):
            upto = "" if most is None else f" to {most}"
            self._say(told, f"{name}: wants a whole number from {least}{upto or ' on'}, got {_got(told)}")
            return default
        return int(told.value)

    def _number(
        self, top: Tree, name: str, default: float, wanted: str = ABOVE_0, *, most: float | None = None
    ) -> float:
        told = top.get(name)
        return default if told is None else self._checked_number(told, name, wanted, most, default)

    def _checked_number(
        self, told: Marked, name: str, wanted: str, most: float | None, default: float
    ) -> float:
        value = told.value
        fits = type(value) in (int, float) and value < float("inf") and value >= 0
        if not fits or (wanted == ABOVE_0 and not value) or (most is not None and value > most):
            upto = "" if most is None else f", at most {most:g}"
            self._say(told, f"{name}: wants a number {wanted}{upto}, got {_got(told)}")
            return default
        return float(value)


def _got(told: Marked | None) -> str:
    return "nothing" if told is None else kind_text(told)
