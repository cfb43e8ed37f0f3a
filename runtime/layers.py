"""A graph file and what it extends, merged into one tree: nodes by name, key by key; `null` removes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from .errors import GraphError, did_you_mean
from .excerpt import FileProblem, GraphFileError, source_lines
from .ir import At
from .yamltree import MOST_BYTES, Broken, Marked, decode, tree

VERSION = 1
TOP = ("tokenloom", "title", "extends", "params", "nodes", "outputs")
SECTIONS = ("params", "nodes", "outputs")
DEEPEST_CHAIN = 20
MOST_PROBLEMS = 100


def builtin_graphs() -> dict[str, Path]:
    """The graphs that come with tokenloom, by bare name: `visionzip`, `base/llava15`."""
    folder = Path(str(resources.files("tokenloom"))) / "graphs"
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in sorted(folder.rglob("*.yaml"))}


def locate(name: str) -> str:
    """The path of a graph file, or of the built-in graph of that name; a GraphError that suggests one."""
    if os.path.isfile(name):
        return name
    known = builtin_graphs()
    if (bare := name.removesuffix(".yaml")) not in known:
        hint = did_you_mean(name, known)
        raise GraphError(f"{name}: no such graph file, and no built-in graph is called that{hint}")
    path, here = str(known[bare]), os.path.relpath(known[bare])
    return path if here.startswith("..") else here


@dataclass
class Reader:
    """Reads files once each, remembers their lines, and collects every mistake."""

    problems: list[FileProblem] = field(default_factory=list[FileProblem])
    sources: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    removed: dict[str, At] = field(default_factory=dict[str, At])  # inherited nodes and parameters, by null
    baseless: bool = False  # a file that is extended could not be found: what it would have said is unknown
    instead: Mapping[str, str] = field(default_factory=dict[str, str])  # of a real path that is extended

    def say(self, at: At, message: str) -> None:
        """Note a mistake; Broken when there are so many that no one reads on."""
        self.note(FileProblem(at, message))

    def note(self, problem: FileProblem) -> None:
        """The same, for a problem that is made already."""
        self.problems.append(problem)
        if len(self.problems) >= MOST_PROBLEMS:
            raise Broken

    def stop(self) -> None:
        """Raise everything that was noted, if anything."""
        if self.problems:
            raise GraphFileError(self.problems, self.sources)

    def document(
        self, path: str, text: str | None = None, chain: tuple[str, ...] = (), moved: bool = False
    ) -> dict[str, Marked]:
        """The sections of a file merged over those of the file it extends. Broken when unreadable.

        moved: a file of the chain was taken instead of another already.
        """
        top = self._top(path, text)
        base: dict[str, Marked] = {}
        if "extends" in top:
            target = self._target(top["extends"], (*chain, path))
            self.baseless |= target is None
            other = None if moved or target is None else self._other(target, (*chain, path))
            target, moved = other or target, moved or other is not None
            base = self.document(target, chain=(*chain, path), moved=moved) if target else {}
        return merged(self, base, top) if base else top

    def _other(self, target: str, chain: tuple[str, ...]) -> str | None:
        """What is extended instead of `target`; None: nothing else, or a file that has come already."""
        other = self.instead.get(os.path.realpath(target))
        came = other is not None and os.path.realpath(other) in map(os.path.realpath, chain)
        return None if came else other

    def file_of(self, value: Marked) -> str:
        """The file that a value such as `./branch.yaml` names, seen from the file it stands in.

        A built-in graph's name is one too, with or without its ending, when no such file is there.
        """
        name = str(value.value)
        beside = os.path.normpath(os.path.join(os.path.dirname(value.at.path), name))
        if name.endswith((".yaml", ".yml")) and (
            os.path.isfile(beside) or name.removesuffix(".yaml") not in builtin_graphs()
        ):
            return beside
        return locate(name)

    def _target(self, value: Marked, chain: tuple[str, ...]) -> str | None:
        """The file to extend; None when there is no such file, or it extends this one."""
        if not isinstance(value.value, str):
            self.say(value.at, "extends: wants the name of a graph file")
            return None
        try:
            path = self.file_of(value)
        except GraphError as error:
            self.say(value.at, str(error))
            return None
        if not os.path.isfile(path):
            self.say(value.at, f"{path}: no such file{near_file(path) or near_builtin(value.value)}")
        elif any(os.path.realpath(path) == os.path.realpath(one) for one in chain):
            self.say(value.at, f"these files extend each other: {' -> '.join([*chain, path])}")
        elif len(chain) >= DEEPEST_CHAIN:
            self.say(value.at, f"more than {DEEPEST_CHAIN} files extend one another")
        else:
            return path
        return None

    def _top(self, path: str, text: str | None) -> dict[str, Marked]:
        if text is None:
            text = decode(path, self._bytes(path), self.note)
        self.sources[path] = source_lines(text)
        root = tree(path, text, self.note)
        if not isinstance(root.value, dict):
            self.say(root.at, "a graph file is a mapping that starts with 'tokenloom: 1'")
            raise Broken
        top: dict[str, Marked] = root.value
        for name, value in top.items():
            if name not in TOP:
                self.say(
                    value.key, f"{name!r} is not known at the top of a graph file{did_you_mean(name, TOP)}"
                )
            elif name in SECTIONS and not isinstance(value.value, dict):
                if value.value is not None:
                    self.say(value.at, f"{name}: wants a mapping by name, got {kind_text(value)}")
            elif name == "title" and not isinstance(value.value, str):
                self.say(value.at, f"title: wants a text, got {kind_text(value)}")
        self._version(top, root)
        return {
            name: value
            for name, value in top.items()
            if name in TOP and (name not in SECTIONS or isinstance(value.value, dict))
        }

    def _version(self, top: dict[str, Marked], root: Marked) -> None:
        version = top.get("tokenloom")
        if version is None:
            self.say(root.at, "the version is missing: a graph file starts with 'tokenloom: 1'")
        elif version.value != VERSION or isinstance(version.value, bool):
            self.say(
                version.at,
                f"version {version.value!r} of the file format is not known; this tokenloom reads 1",
            )

    def _bytes(self, path: str) -> bytes:
        try:
            if (size := os.path.getsize(path)) > MOST_BYTES:
                self.say(At(path, 1, 1), f"the file has {size} bytes; a graph file has at most {MOST_BYTES}")
                raise Broken
            return Path(path).read_bytes()
        except OSError as error:
            self.say(At(path, 1, 1), f"cannot be read: {error.strerror}")
            raise Broken from None


def near_file(path: str) -> str:
    """`; did you mean 'llava15.yaml'?` from the files that are beside where it should be."""
    folder, name = os.path.split(path)
    found = [p.name for p in Path(folder or ".").glob("*.y*ml")] if os.path.isdir(folder or ".") else []
    hint = did_you_mean(name, found)
    return hint if "did you mean" in hint else ""


def near_builtin(name: str) -> str:
    """`; did you mean 'base/llava15.yaml'?` from the graphs that come with tokenloom."""
    hint = did_you_mean(name, [f"{known}.yaml" for known in builtin_graphs()])
    return hint if "did you mean" in hint else ""


def kind_text(value: Marked) -> str:
    """What came instead: `a list`, `a mapping`, `54`, `null`."""
    if isinstance(value.value, dict):
        return "a mapping"
    if isinstance(value.value, list):
        return "a list"
    return "null" if value.value is None else repr(value.value)


def merged(reader: Reader, base: Mapping[str, Marked], top: Mapping[str, Marked]) -> dict[str, Marked]:
    """The sections of `top` over those of `base`."""
    out = {**base, **top}
    for name in SECTIONS:
        if name in base and name in top:
            out[name] = replace(top[name], value=_section(reader, name, base[name].value, top[name].value))
    return out


def _section(
    reader: Reader, section: str, base: dict[str, Marked], top: dict[str, Marked]
) -> dict[str, Marked]:
    out = dict(base)
    for name, value in top.items():
        if value.value is None:
            if name not in base:
                what = section.removesuffix("s")
                hint = did_you_mean(name, base)
                reader.say(value.key, f"null removes a {what}, but none is inherited as {name!r}{hint}")
            if out.pop(name, None):
                reader.removed[name] = value.key
        elif section == "params" and name in base and not isinstance(value.value, dict):
            reader.say(
                value.at, f"params.{name}: wants a mapping; write {name}: {{default: {_written(value)}}}"
            )
        elif section != "outputs" and name in base and isinstance(value.value, dict):
            out[name] = _entry(base[name], value)
        else:
            out[name] = value
    return out


def _written(value: Marked) -> str:
    """A scalar or a list as YAML."""
    if isinstance(value.value, list):
        return f"[{', '.join(map(_written, value.value))}]"
    return json.dumps(value.value, ensure_ascii=False, default=str)


def _entry(base: Marked, top: Marked) -> Marked:
    """One node or parameter, key by key; what a node of another type does not know of the old one goes."""
    if not isinstance(base.value, dict):
        return top
    old, new = base.value.get("node"), top.value.get("node")
    soft = new is not None and old is not None and old.value != new.value
    out = {k: replace(v, soft=soft or v.soft) for k, v in base.value.items()}
    for key, value in top.value.items():
        if value.value is None and key in out:
            del out[key]
        else:
            out[key] = value
    return replace(top, value=out)
