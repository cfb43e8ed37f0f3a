"""From the merged tree of a graph file to a `Graph`: nodes, wires, composites, outputs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import registry
from .build import ParamRef
from .check import cycle_text, cycles, output_problem, step_problems, wire_problem
from .composite import inline
from .errors import GraphError, WiringError, did_you_mean
from .graph import ID, Graph
from .ir import At, Param, Step, Wire
from .layers import Reader, kind_text, near_file
from .node import NodeType
from .widgets import MISSING, Widget
from .yamlparams import is_reference, literal, placed, read_param
from .yamltree import Broken, Marked

REF = re.compile(rf"\$({ID.pattern})(?:\.([A-Za-z_][A-Za-z0-9_]*))?")
DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]+)?")
DEEPEST_FILES = 20
Kind = NodeType[..., Any] | Graph | None  # None: not known, already reported
End = Wire | ParamRef


def read_graph(reader: Reader, path: str, text: str | None = None, inside: tuple[str, ...] = ()) -> Graph:
    """The graph of a file; mistakes are noted in `reader`. Broken when the file cannot be read at all."""
    document = reader.document(path, text)
    build = Building(reader, path, (*inside, path), Graph(at=path))
    build.read_params(_section(document, "params"))
    build.read_kinds(_section(document, "nodes"))
    build.read_nodes()
    build.read_outputs(_section(document, "outputs"))
    build.check()
    if "title" in document and isinstance(document["title"].value, str):
        build.graph.title = document["title"].value
    return build.graph


def _section(document: Mapping[str, Marked], name: str) -> dict[str, Marked]:
    section: dict[str, Marked] = document[name].value if name in document else {}
    return section


@dataclass
class Entry:
    """One entry of `nodes`: a node type, or a whole graph that stands for a node."""

    id: str
    at: At
    keys: dict[str, Marked]
    kind: Kind

    @property
    def known(self) -> list[str]:
        """Its inputs and settings."""
        if isinstance(self.kind, Graph):
            return list(self.kind.params)
        return [] if self.kind is None else [*self.kind.sockets, *self.kind.widgets]

    def option(self, name: str) -> Marked | None:
        """`when` or `device` of the step; None where the node has a setting of that name."""
        return None if name in self.known else self.keys.get(name)

    def settings(self) -> Iterator[tuple[str, Marked]]:
        """The keys that are sockets, settings, or unknown."""
        known = set(self.known)
        for key, value in self.keys.items():
            if key == "node" or (key in ("when", "device") and key not in known):
                continue
            if key in known or not value.soft:
                yield key, value


@dataclass
class Building:
    """A graph on its way: where each part is written, and which parts have a mistake that was reported."""

    reader: Reader
    path: str
    inside: tuple[str, ...]
    graph: Graph
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    marks: dict[tuple[str, str, int], At] = field(default_factory=dict[tuple[str, str, int], At])
    bad: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    bad_params: set[str] = field(default_factory=set[str])

    def read_params(self, section: Mapping[str, Marked]) -> None:
        """Declare the parameters."""
        for name, entry in section.items():
            param = read_param(self.reader, name, entry) if self._good(name, entry, "parameter") else None
            if param is None:
                self.bad_params.add(name)
            self.graph.params[name] = param or Param(name, Any, at=entry.key)

    def _good(self, name: str, entry: Marked, what: str) -> bool:
        if ID.fullmatch(name):
            return True
        self.reader.say(
            entry.key, f"{name!r} is no name for a {what}; use letters, digits, _ and -, a letter first"
        )
        return False

    # -- nodes ---------------------------------------------------------------------------------------------

    def read_kinds(self, section: Mapping[str, Marked]) -> None:
        """Find the type of every node; composites are read here."""
        for name, entry in section.items():
            self._good(name, entry, "node")
            if name in self.graph.params:
                self._both_names(name, entry.key, self.graph.params[name].at or entry.key)
            keys: dict[str, Marked] = entry.value if isinstance(entry.value, dict) else {}
            if not isinstance(entry.value, dict):
                self.reader.say(entry.at, f"{name}: wants a mapping such as {{node: ..., tokens: $other}}")
            kind = self._kind(name, entry, section) if isinstance(entry.value, dict) else None
            self.entries[name] = Entry(name, entry.key, keys, kind)

    def _both_names(self, name: str, node: At, param: At) -> None:
        """One name for a node and a parameter: said where the outer file says it."""
        here, there, what = (param, node, "node") if param.path == self.path else (node, param, "parameter")
        self.reader.say(
            here, f"{name!r} is also a {what} ({there}); nodes and parameters share one namespace"
        )

    def _kind(self, name: str, entry: Marked, section: Mapping[str, Marked]) -> Kind:
        value = entry.value.get("node")
        if value is None:
            hint = did_you_mean(name, [other for other in section if other != name])
            hint = hint if "did you mean" in hint else ""
            if not self.reader.baseless:
                self.reader.say(
                    entry.key, f"{name}: its type is missing, such as node: select_dominant{hint}"
                )
            return None
        if not isinstance(value.value, str):
            self.reader.say(value.at, f"{name}.node: wants the name of a node, got {kind_text(value)}")
            return None
        if value.value.endswith((".yaml", ".yml")):
            return self._composite(name, value)
        try:
            return registry.find(value.value)
        except GraphError as error:
            self.reader.say(value.at, f"{name}: {error}")
            return None

    def _composite(self, name: str, value: Marked) -> Graph | None:
        path = self.reader.file_of(value)
        if not os.path.isfile(path):
            self.reader.say(value.at, f"{name}: {path}: no such file{near_file(path)}")
        elif os.path.realpath(path) in map(os.path.realpath, self.inside):
            chain = " -> ".join([*self.inside, path])
            self.reader.say(value.at, f"{name}: these files contain each other: {chain}")
        elif len(self.inside) >= DEEPEST_FILES:
            self.reader.say(value.at, f"{name}: files are nested more than {DEEPEST_FILES} deep")
        else:
            before = len(self.reader.problems)
            try:
                graph = read_graph(self.reader, path, inside=self.inside)
            except Broken:
                return None
            return graph if len(self.reader.problems) == before else None
        return None

    def read_nodes(self) -> None:
        """Turn every entry into a step, or into the steps of its composite."""
        for node in self.entries.values():
            if node.kind is None:
                self._references(node)
                continue
            known = set(node.known)
            for key, value in node.settings():
                if key not in known:
                    hint = did_you_mean(key, known)
                    self.reader.say(value.key, f"{node.id}: no input or setting is called {key!r}{hint}")
            if isinstance(node.kind, Graph):
                inline(self, node, node.kind)
            else:
                self._step(node, node.kind)

    def _references(self, node: Entry) -> None:
        """Of a node whose type is not known only the references can be checked."""
        for key, value in node.keys.items():
            for item in value.value if isinstance(value.value, list) else [value]:
                if key != "node" and is_reference(item):
                    self._reference(f"{node.id}.{key}", item)

    def _step(self, node: Entry, kind: NodeType[..., Any]) -> None:
        wires: dict[str, tuple[End, ...]] = {}
        widgets: dict[str, Any] = {}
        for key, value in node.settings():
            if key in kind.sockets and (ends := self.ends(node.id, key, value, kind.sockets[key].variadic)):
                wires[key] = ends
            elif key in kind.widgets:
                given = self.setting(node.id, kind.widgets[key], value)
                if given is not MISSING:
                    widgets[key] = given
        when, device = self.when(node), self.device(node)
        self.graph.steps[node.id] = Step(node.id, kind, wires, widgets, when, node.at, device)

    def ends(self, id: str, key: str, value: Marked, variadic: bool) -> tuple[End, ...]:
        """What is wired to a socket; null leaves it open."""
        where = f"{id}.{key}"
        if value.value is None:
            return ()
        if isinstance(value.value, list) and not variadic:
            self.bad.add((id, key))
            self.reader.say(value.at, f"{where} takes one wire, not a list")
            return ()
        ends: list[End] = []
        for item in value.value if isinstance(value.value, list) else [value]:
            end: End | None = None
            if is_reference(item):
                end = self._reference(where, item)
            else:
                self._no_wire(where, item)
            if end is None:
                self.bad.add((id, key))
            else:
                self.marks[id, key, len(ends)] = item.at
                ends.append(end)
        return tuple(ends)

    def _no_wire(self, where: str, item: Marked) -> None:
        name = item.value.partition(".")[0] if isinstance(item.value, str) else None
        hint = f"; did you mean ${item.value}?" if name in self.entries or name in self.graph.params else ""
        self.reader.say(item.at, f"{where} takes a wire such as $node.output, got {kind_text(item)}{hint}")

    def setting(self, id: str, widget: Widget, value: Marked) -> Any:
        """The checked value of a setting, or its parameter; MISSING after a mistake."""
        where = f"{id}.{widget.name}"
        self.marks[id, widget.name, 0] = value.at
        if is_reference(value):
            end = self._reference(where, value)
            if isinstance(end, ParamRef):
                return end
            if end is not None:
                self.reader.say(
                    value.at,
                    f"{where} is a setting: it takes a value or a parameter, not the output of {end.node}",
                )
        else:
            try:
                given = literal(self.reader, where, value)
                if given is not MISSING:
                    return placed(widget.check(id, given), value.at.path)
            except WiringError as error:
                self.reader.say(value.at, str(error))
        self.bad.add((id, widget.name))
        return MISSING

    def when(self, node: Entry) -> bool | ParamRef:
        """Whether the step runs: true, false, or a bool parameter."""
        value = node.option("when")
        if value is None or isinstance(value.value, bool):
            return True if value is None else value.value
        self.marks[node.id, "when", 0] = value.at
        end = self._reference(f"{node.id}.when", value) if is_reference(value) else None
        if isinstance(end, ParamRef):
            return end
        if end is not None or not is_reference(value):
            got = kind_text(value)
            self.reader.say(value.at, f"{node.id}.when: wants true, false or a bool parameter, got {got}")
        return True

    def device(self, node: Entry) -> str | None:
        """Where the step runs, if the entry says so."""
        value = node.option("device")
        if value is None or (isinstance(value.value, str) and DEVICE.fullmatch(value.value)):
            return None if value is None else str(value.value)
        self.reader.say(
            value.at, f"{node.id}.device: wants auto, cpu, mps, cuda or cuda:N, got {kind_text(value)}"
        )
        return None

    # -- references, outputs, checks -----------------------------------------------------------------------

    def _reference(self, where: str, value: Marked) -> End | None:
        """What `$name` or `$name.output` stands for; None after a mistake."""
        match = REF.fullmatch(value.value)
        if match is None:
            self.reader.say(
                value.at,
                f"{where}: {value.value!r} is no reference; write $node, $node.output or $parameter, and $$ "
                "for a dollar",
            )
            return None
        name, output = match[1], match[2] or ""
        if name in self.entries:
            kind = self.entries[name].kind
            if isinstance(kind, Graph):
                return self._inner_output(where, value, name, output)
            return None if kind is None else Wire(name, output)
        if name not in self.graph.params:
            hint = did_you_mean(name, [*self.entries, *self.graph.params])
            if name in self.reader.removed:
                gone = self.reader.removed[name]
                hint = f"; removed at {gone.path}:{gone.line}: wire something else to {where} there"
            self.reader.say(value.at, f"{where}: nothing is called {name!r}{hint}")
        elif output:
            self.reader.say(value.at, f"{where}: {name} is a parameter and has no outputs; write ${name}")
        elif name not in self.bad_params:
            return ParamRef(name)
        return None

    def _inner_output(self, where: str, value: Marked, name: str, output: str) -> Wire | None:
        kind = self.entries[name].kind
        assert isinstance(kind, Graph)
        if not output and len(kind.outputs) == 1:
            output = next(iter(kind.outputs))
        if output in kind.outputs:
            wire = kind.outputs[output]
            return Wire(f"{name}/{wire.node}", wire.output)
        if output or not kind.outputs:
            text = output_problem(name, output, kind.outputs) if output else f"{name} has no outputs"
        else:
            text = f"{name} has several outputs; say which: {' or '.join(kind.outputs)}"
        self.reader.say(value.at, f"{where}: {text}")
        return None

    def read_outputs(self, section: Mapping[str, Marked]) -> None:
        """Name the results."""
        for name, value in section.items():
            if not is_reference(value):
                self._no_wire(f"output {name}", value)
                continue
            end = self._reference(f"output {name}", value)
            if isinstance(end, ParamRef):
                self.reader.say(
                    value.at, f"output {name}: {end.name} is a parameter, not the output of a node"
                )
            elif end is not None:
                self.graph.outputs[name] = end
                if message := wire_problem(self.graph.steps, f"output {name}", Any, end):
                    self.reader.say(value.at, message)

    def check(self) -> None:
        """Types, missing inputs and cycles of the finished graph, as far as they were not reported before."""
        types = self.graph.resolved()
        for step in self.graph.steps.values():
            for problem in step_problems(self.graph, step, types):
                if (step.id, problem.key) not in self.bad:
                    at = self.marks.get((step.id, problem.key, problem.index)) or step.at
                    self.reader.say(at or At(self.path, 1, 1), problem.message)
        for names in cycles(self.graph.steps):
            members = [self.graph.steps[name] for name in names]
            lines = [step.at.line if step.at else 0 for step in members]
            first = lines.index(min(lines))
            members = [*members[first:], *members[:first]]
            self.reader.say(members[0].at or At(self.path, 1, 1), cycle_text(members))
