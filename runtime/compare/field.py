"""Who takes part in a comparison: graphs with their values, their bases, and plans; all checked at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..ancestry import BASES, uncompressed
from ..errors import GraphError, LoomError
from ..graph import Graph
from ..models.handle import Model
from ..plan import Plan, plan
from ..sweep.grid import plain_text
from ..sweep.identity import graph_name
from ..sweep.items import MEDIA, other_media
from ..sweep.problems import Problems
from .lens import LOGITS, Lens
from .spec import Entrant, Named, read_entrants
from .towers import known_of


@dataclass(frozen=True, kw_only=True)
class Player:
    """One column: an entrant, how it is looked at, and its plan. base: the number of its base, -1: none."""

    entrant: Entrant
    lens: Lens
    plan: Plan
    base: int = -1

    @property
    def llm(self) -> Model[Any] | None:
        """The language model, as far as it is known before the run."""
        inputs = self.plan.by_id[LOGITS].inputs
        value = next((known_of(self.plan, slots[0]) for name, _, slots in inputs if name == "llm"), None)
        return value if isinstance(value, Model) else None


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a comparison is asked for. base: what all are compared with; None: what each extends."""

    graphs: Sequence[Named]
    inputs: Mapping[str, Any]
    base: Graph | Path | str | None = None
    with_base: bool = True
    device: str = "auto"
    dtype: str = "auto"


def players(ask: Ask, problems: Problems) -> list[Player]:
    """The columns, bases first. Errors: what `problems` raises, with everything that is wrong."""
    entrants = read_entrants(ask.graphs, ask.inputs, problems)
    problems.stop()
    _check_media(entrants, problems)
    problems.stop()
    _check_same("question", entrants, problems)
    problems.stop()
    bases = [_base(entrant, ask, problems) if ask.with_base else None for entrant in entrants]
    problems.stop()
    _check_bases(entrants, bases, problems)
    problems.stop()
    return _planned(*_in_order(entrants, bases), ask, problems)


def _in_order(
    entrants: Sequence[Entrant], bases: Sequence[Entrant | None]
) -> tuple[list[Entrant], list[int]]:
    """Every base once, then the entrants that are none; and the number of each one's base."""
    out: list[Entrant] = []
    for one in bases:
        if one is not None and not any(_same(one, other) for other in out):
            out.append(one)
    out = _told_apart(out)
    of = list(range(len(out)))
    for entrant, base in zip(entrants, bases, strict=True):
        number = next((i for i, other in enumerate(out) if base is not None and _same(base, other)), -1)
        if number >= 0 and _same(entrant, out[number]):
            out[number] = entrant  # it was named: as it was called
        else:
            out.append(entrant)
            of.append(number)
    return out, of


def _told_apart(bases: Sequence[Entrant]) -> list[Entrant]:
    """The bases, those of one graph named by the values in which they differ."""
    out: list[Entrant] = []
    for base in bases:
        alike = [other for other in bases if other.name == base.name]
        names = [n for n in base.graph.params if any(o.value(n) != base.value(n) for o in alike)]
        told = " ".join(f"{name}={plain_text(base.value(name))}" for name in names)
        out.append(replace(base, name=f"{base.name} {told}".strip()))
    return out


def _same(a: Entrant, b: Entrant) -> bool:
    """Whether two entrants do the same: equal steps, equal values."""
    if a.graph.steps.keys() != b.graph.steps.keys() or a.graph != b.graph:
        return False
    return all(a.value(name) == b.value(name) for name in a.graph.params)


def _base(entrant: Entrant, ask: Ask, problems: Problems) -> Entrant | None:
    """The entrant's graph uncompressed, with what the entrant gives its parameters."""
    try:
        if ask.base is not None:
            from ..yamlfile import load

            graph = ask.base if isinstance(ask.base, Graph) else load(ask.base)
        elif entrant.graph.at is not None and Path(entrant.graph.at).resolve().parent.name == BASES:
            graph = entrant.graph
        else:
            graph = uncompressed(entrant.graph)
    except GraphError as error:
        problems.say(f"{error} with --base GRAPH, or leave it out with --no-base")
        return None
    values = {name: entrant.value(name) for name in graph.params if name in entrant.graph.params}
    lacking = {n for n, p in entrant.graph.params.items() if p.required and n not in entrant.params}
    params = {name: value for name, value in values.items() if name not in lacking}
    return Entrant(name=graph_name(graph), graph=graph, params=params)


def _planned(entrants: Sequence[Entrant], bases: Sequence[int], ask: Ask, problems: Problems) -> list[Player]:
    out: list[Player] = []
    own = {number for number in bases if number >= 0}
    for number, (entrant, base) in enumerate(zip(entrants, bases, strict=True)):
        try:
            out.append(player(entrant, ask.device, ask.dtype, base))
        except LoomError as error:
            what = (
                f"the base, {entrant.name}"
                if number in own and entrant.name not in _names(ask)
                else entrant.name
            )
            more = (
                "; name another with --base GRAPH, or leave it out with --no-base" if "base" in what else ""
            )
            problems.say(f"{what}: {error}{more}")
    problems.stop()
    _check_models(out, problems)
    problems.stop()
    return out


def player(entrant: Entrant, device: str, dtype: str, base: int = -1) -> Player:
    """An entrant that can be run. Errors: whatever planning refuses."""
    lens = Lens.of(entrant.graph)
    outputs = tuple(lens.outputs.values())
    made = plan(lens.graph, entrant.params, outputs=outputs, device=device, dtype=dtype)
    return Player(entrant=entrant, lens=lens, plan=made, base=base)


def _names(ask: Ask) -> set[str]:
    return {one for one in ask.graphs if isinstance(one, str)}


# -- the same question about the same thing ------------------------------------------------------------------


def _check_media(entrants: Sequence[Entrant], problems: Problems) -> None:
    """Note graphs that are asked about different pictures or clips, or about none."""
    asked: dict[tuple[str, Any], list[str]] = {}
    for entrant in entrants:
        own = [name for name in MEDIA if name in entrant.graph.params]
        if own:
            name = next((name for name in own if entrant.value(name) is not None), own[0])
            asked.setdefault((name, _whole(entrant.value(name))), []).append(entrant.name)
    values = {value for _, value in asked}
    wanted = list(dict.fromkeys(name for name, _ in asked))
    if values == {None} and len(wanted) == 1:
        problems.say(f"{wanted[0]}: not given; say {wanted[0]}=FILE, what all are asked about")
    elif len(values) > 1 or (None in values and len(wanted) > 1):
        told = "\n".join(
            f"  {wrapped(names)}: {name}={'FILE' if value is None else _short(value)}"
            for (name, value), names in asked.items()
        )
        problems.say(
            "the graphs are asked about different things, and a comparison is about one picture or clip:\n"
            f"{told}\ncompare those of one line at a time, or give all the same"
        )


def _check_bases(entrants: Sequence[Entrant], bases: Sequence[Entrant | None], problems: Problems) -> None:
    """Note bases that would be asked about something else, such as the picture that they have by default."""
    for entrant, base in zip(entrants, bases, strict=True):
        told = base and other_media(entrant.graph, base.graph, entrant.name, base.name)
        if told:
            problems.say(f"{told}, or leave it out with --no-base")


def _whole(value: Any) -> Any:
    """A path, or several, absolutely."""
    if isinstance(value, tuple):
        return tuple(map(_whole, value))
    return Path(os.path.abspath(value)) if isinstance(value, Path) else value


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_short, value))}]"
    if isinstance(value, Path):
        return str(value) if (near := os.path.relpath(value)).startswith("..") else near
    return str(value)


def _check_same(name: str, entrants: Sequence[Entrant], problems: Problems) -> None:
    """Note a parameter that must have one value and has several."""
    asked: dict[Any, list[str]] = {}
    for entrant in entrants:
        if name in entrant.graph.params:
            asked.setdefault(entrant.value(name), []).append(entrant.name)
    if len(asked) > 1:
        told = "\n".join(f"  {wrapped(names)}: {value!r}" for value, names in asked.items())
        problems.say(f"the graphs are asked different questions:\n{told}\ngive all the same: {name}=...")


def _check_models(found: Sequence[Player], problems: Problems) -> None:
    """Note graphs that answer with different language models: neither scores nor costs could be compared."""
    asked: dict[str, list[str]] = {}
    called: dict[str, str] = {}
    for one in found:
        if one.llm is not None:
            asked.setdefault(one.llm.fingerprint, []).append(one.entrant.name)
            called.setdefault(one.llm.fingerprint, str(one.entrant.value("checkpoint") or one.llm.folder))
    if len(asked) > 1:
        told = "\n".join(f"  {wrapped(names)}: checkpoint={called[key]}" for key, names in asked.items())
        problems.say(
            f"the graphs read different models:\n{told}\ncompare those of one line at a time, or give all a "
            "checkpoint that each can read: checkpoint=..."
        )


def wrapped(names: Sequence[str]) -> str:
    """`visionzip, fastv`."""
    return ", ".join(dict.fromkeys(names))
