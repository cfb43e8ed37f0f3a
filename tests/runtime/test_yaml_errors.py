"""Every message of a broken graph file, with its line, column and caret."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom import load
from tokenloom.runtime.yamlfile import GraphFileError

from . import loom_nodes

assert loom_nodes  # registers the toy nodes

HEAD = "tokenloom: 1\n"
START = """\
tokenloom: 1
params:
  keep: {type: int, default: 5}
  name: {type: str, default: x}
nodes:
  film: {node: loom_clip}
  patches: {node: loom_encode, clip: $film}
  picked: {node: loom_sort, beads: $patches}
"""


def messages(text: str | bytes, folder: Path | None = None, **files: str) -> list[str]:
    """`line:column: message` of every mistake in the text (of other files with their names)."""
    path, data = Path("x.yaml"), text if isinstance(text, str) else None
    if folder is not None:
        path, data = folder / "x.yaml", None
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        for name, content in files.items():
            (folder / f"{name}.yaml").write_text(content)
    with pytest.raises(GraphFileError) as error:
        load(path, data)
    found = [f"{problem.at}: {problem.message}" for problem in error.value.problems]
    prefix = "" if folder is None else f"{folder}/"
    return [line.replace(prefix, "").removeprefix("x.yaml:") for line in found]


def test_the_whole_message() -> None:
    """All mistakes at once, by line: place, message, source line, caret, suggestion."""
    text = START + "  merged: {node: loom_join, kept: $picked, rest: $picked.rst}\n  a: {node: loom_srt}\n"
    with pytest.raises(GraphFileError) as error:
        load("graphs/x.yaml", text)
    assert str(error.value) == (
        "graphs/x.yaml:9:35: merged.kept wants Beads, but picked gives Sorted; "
        "say which output: kept or rest\n"
        "      merged: {node: loom_join, kept: $picked, rest: $picked.rst}\n"
        "                                      ^\n"
        "graphs/x.yaml:9:50: merged.rest: picked has no output 'rst'; did you mean 'rest'?\n"
        "      merged: {node: loom_join, kept: $picked, rest: $picked.rst}\n"
        "                                                     ^\n"
        "graphs/x.yaml:10:13: a: no node is called 'loom_srt'; did you mean 'loom_sort'?\n"
        "      a: {node: loom_srt}\n"
        "                ^"
    )


def test_the_caret_stands_under_wide_letters() -> None:
    """A Chinese character is two columns wide on a terminal, an accent none."""
    text = HEAD + 'nodes: {"a": {node: loom_clip, path: 你好, lenght: 1}}\n'
    with pytest.raises(GraphFileError) as error:
        load("x.yaml", text)
    line, caret = str(error.value).split("\n")[1:]
    assert caret.index("^") == line.index("lenght") + 2


def test_a_long_line_is_cut_around_the_place() -> None:
    """The excerpt stays short and still shows what is wrong."""
    text = HEAD + f"nodes: {{a: {{node: loom_clip, path: {'x' * 300}, lenght: 1}}}}\n"
    with pytest.raises(GraphFileError) as error:
        load("x.yaml", text)
    line, caret = str(error.value).split("\n")[1:]
    assert len(line) <= 104
    assert line[caret.index("^") :].startswith("lenght: 1")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "1:1: the file is empty; a graph file starts with 'tokenloom: 1'"),
        ("# nothing\n\n", "1:1: the file is empty; a graph file starts with 'tokenloom: 1'"),
        ("- a\n", "1:1: a graph file is a mapping that starts with 'tokenloom: 1'"),
        ("title: x\n", "1:1: the version is missing: a graph file starts with 'tokenloom: 1'"),
        ("tokenloom: 2\n", "1:12: version 2 of the file format is not known; this tokenloom reads 1"),
        ("tokenloom: true\n", "1:12: version True of the file format is not known; this tokenloom reads 1"),
        (HEAD + "node: {}\n", "2:1: 'node' is not known at the top of a graph file; did you mean 'nodes'?"),
        (HEAD + "title: [a]\n", "2:8: title: wants a text, got a list"),
        (HEAD + "nodes: [a]\n", "2:8: nodes: wants a mapping by name, got a list"),
        (HEAD + "nodes:\n\ta: 1\n", "3:1: a tab indents this line; use spaces"),
        (HEAD + "nodes: {a: 1\n", "3:1: this is not YAML: did not find expected ',' or '}'"),
        (
            HEAD + "title: &x a\n",
            "2:8: &x is an anchor; write the value out, or make it a parameter",
        ),
        (
            HEAD + "nodes: {a: {node: loom_clip, length: *x}}\n",
            "2:38: *x is an alias; write the value out, or make it a parameter\n"
            "2:38: a.length: None is null, wanted int 0..1000",
        ),
        (
            HEAD + "title: !!python/object/apply:os.system [ls]\n",
            "2:8: !!python/object/apply:os.system is a tag; graph files hold plain values only\n"
            "2:8: title: wants a text, got a list",
        ),
        (HEAD + "title: a\ntitle: b\n", "3:1: 'title' is written twice; the first is at line 2"),
        (
            HEAD + "nodes: {a: {node: loom_clip, node: loom_clip}}\n",
            "2:30: 'node' is written twice; the first is at line 2",
        ),
        (
            HEAD + "nodes: {a: {<<: {}, node: loom_clip}}\n",
            "2:13: << merges another mapping; use extends: to build on a file\n"
            "2:13: a: no input or setting is called '<<'; known: length, path",
        ),
        (
            HEAD + "title: t\n? [a]\n: b\n",
            "3:3: a key is a plain name, not a list or a mapping\n"
            "3:3: '' is not known at the top of a graph file; known: extends, nodes, outputs, params, title, "
            "tokenloom",
        ),
        (HEAD + "---\ntokenloom: 1\n", "2:1: a second document starts here; a file holds one graph"),
        (HEAD + f"title: {'[' * 60}\n", "2:57: nested more than 50 deep"),
        (HEAD + "title: a\x07b\n", "2:9: character U+0007 cannot stand in a text file"),
        (
            HEAD + f"title: {'x' * 1_000_000}\n",
            "1:1: the file has 1000021 bytes; a graph file has at most 1000000",
        ),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, str) else None,
)
def test_what_is_no_graph_file(text: str, wanted: str) -> None:
    """Broken or unsafe YAML is one clear line."""
    assert messages(text) == wanted.split("\n")


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("  a: {node: loom_clap}", "9:13: a: no node is called 'loom_clap'; did you mean 'loom_clip'?"),
        ("  a: {node: 5}", "9:13: a.node: wants the name of a node, got 5"),
        ("  a: {}", "9:3: a: its type is missing, such as node: select_dominant"),
        (
            "  pickd: {}",
            "9:3: pickd: its type is missing, such as node: select_dominant; did you mean 'picked'?",
        ),
        ("  a: 5", "9:6: a: wants a mapping such as {node: ..., tokens: $other}"),
        (
            "  a b: {node: loom_clip}",
            "9:3: 'a b' is no name for a node; use letters, digits, _ and -, a letter first",
        ),
        (
            "  keep: {node: loom_clip}",
            "3:3: 'keep' is also a node (x.yaml:9:3); nodes and parameters share one namespace",
        ),
        (
            "  a: {node: loom_sort, beads: $patchs}",
            "9:31: a.beads: nothing is called 'patchs'; did you mean 'patches'?",
        ),
        (
            "  a: {node: loom_sort, beads: patches}",
            "9:31: a.beads takes a wire such as $node.output, got 'patches'; did you mean $patches?",
        ),
        ("  a: {node: loom_sort, beads: 5}", "9:31: a.beads takes a wire such as $node.output, got 5"),
        ("  a: {node: loom_sort, beads: [$patches]}", "9:31: a.beads takes one wire, not a list"),
        (
            "  a: {node: loom_chain, beads: [$patches, $film]}",
            "9:43: a.beads wants Beads, but film gives Clip",
        ),
        (
            "  a: {node: loom_sort, beads: $patches.x}",
            "9:31: a.beads: patches has one unnamed output and no 'x'; say patches alone",
        ),
        (
            "  a: {node: loom_join, kept: $picked}",
            "9:30: a.kept wants Beads, but picked gives Sorted; say which output: kept or rest",
        ),
        ("  a: {node: loom_polish, beads: $film}", "9:33: a.beads wants Beads, but film gives Clip"),
        ("  a: {node: loom_polish, beads: $keep}", "9:33: a.beads wants Beads, but parameter keep is int"),
        (
            "  a: {node: loom_polish, beads: $keep.x}",
            "9:33: a.beads: keep is a parameter and has no outputs; write $keep",
        ),
        (
            '  a: {node: loom_polish, beads: "$a b"}',
            "9:33: a.beads: '$a b' is no reference; write $node, $node.output or $parameter, "
            "and $$ for a dollar",
        ),
        ("  a: {node: loom_polish}", "9:3: a: nothing is connected to beads (Beads)"),
        (
            "  a: {node: loom_sort, beads: $patches, keep: 9999}",
            "9:47: a.keep: 9999 is outside 1..576",
        ),
        (
            "  a: {node: loom_sort, beads: $patches, keep: few}",
            "9:47: a.keep: 'few' is a str, wanted int 1..576",
        ),
        (
            "  a: {node: loom_sort, beads: $patches, score: weigt}",
            "9:48: a.score: 'weigt' is not one of 'mean', 'weight'; did you mean 'weight'?",
        ),
        (
            "  a: {node: loom_sort, beads: $patches, keep: $name}",
            "9:47: a.keep wants int 1..576, but parameter name is str",
        ),
        (
            "  a: {node: loom_sort, beads: $patches, keep: $film}",
            "9:47: a.keep is a setting: it takes a value or a parameter, not the output of film",
        ),
        (
            "  a: {node: loom_sort, beads: $patches, keep: {x: 1}}",
            "9:47: a.keep: a mapping is no value of a setting",
        ),
        (
            "  a: {node: loom_chain, levels: [1, $keep]}",
            "9:37: a.levels: $keep stands inside a list; make the whole list a parameter "
            "(or write $$ for a dollar)",
        ),
        (
            "  a: {node: loom_sort, beads: $patches, scor: mean}",
            "9:41: a: no input or setting is called 'scor'; did you mean 'score'?",
        ),
        (
            "  a: {node: loom_say, gems: $g}\n  g: {node: loom_polish, beads: $patches}",
            "9:3: a.question has no value; wanted str",
        ),
        (
            "  a: {node: loom_clip, when: yes}",
            "9:30: a.when: wants true, false or a bool parameter, got 'yes'",
        ),
        ("  a: {node: loom_clip, when: $keep}", "9:30: a.when wants bool, but parameter keep is int"),
        (
            "  a: {node: loom_clip, when: $film}",
            "9:30: a.when: wants true, false or a bool parameter, got '$film'",
        ),
        (
            "  a: {node: loom_clip, device: gpu}",
            "9:32: a.device: wants auto, cpu, mps, cuda or cuda:N, got 'gpu'",
        ),
        (
            "  a: {node: loom_join, kept: $b}\n  b: {node: loom_join, kept: $a}",
            "9:3: these nodes wait for each other: a (x.yaml:9:3) -> b (x.yaml:10:3) -> a",
        ),
        ("  a: {node: loom_join, kept: $a}", "9:3: these nodes wait for each other: a (x.yaml:9:3) -> a"),
        ("outputs: {x: $pickd.kept}", "9:14: output x: nothing is called 'pickd'; did you mean 'picked'?"),
        (
            "outputs: {x: $picked}",
            "9:14: output x: picked gives Sorted; say which output: kept or rest",
        ),
        ("outputs: {x: $keep}", "9:14: output x: keep is a parameter, not the output of a node"),
        (
            "outputs: {x: film}",
            "9:14: output x takes a wire such as $node.output, got 'film'; did you mean $film?",
        ),
    ],
)
def test_what_is_wrong_in_a_node(lines: str, wanted: str) -> None:
    """Each mistake stands at the very value or key, also inside flow mappings."""
    assert messages(START + lines + "\n") == [wanted]


def test_one_mistake_is_said_once() -> None:
    """What follows from a mistake elsewhere is not reported too."""
    text = START + "  a: {node: loom_srt, beads: $patches}\n  b: {node: loom_join, kept: $a}\n"
    assert messages(text) == ["9:13: a: no node is called 'loom_srt'; did you mean 'loom_sort'?"]


@pytest.mark.parametrize(
    ("param", "wanted"),
    [
        ("5", "2:13: params.p: wants a mapping such as {type: int, default: 1}"),
        ("{}", "2:10: params.p: the type is missing, such as type: int"),
        ("{type: itn}", "2:20: params.p: no type is called 'itn'; did you mean 'int'?"),
        ("{type: list of Fames}", "2:20: params.p: no type is called 'Fames'; did you mean 'Frames'?"),
        (
            "{type: int, deflt: 1}",
            "2:25: params.p: 'deflt' is not known of a parameter; did you mean 'default'?",
        ),
        ("{type: int, default: x}", "2:34: params.p: 'x' is a str, wanted int"),
        ("{type: int, default: 9, max: 5}", "2:34: params.p: 9 is above 5"),
        ("{type: int, default: $x}", "2:34: params.p: '$x' is a str, wanted int"),
        ("{type: int, min: a}", "2:30: params.p.min: wants a number, got 'a'"),
        ("{type: int, min: .nan}", "2:30: params.p.min: wants a number, got nan"),
        ("{type: int, min: 9, max: 2}", "2:38: params.p: max 2 is below min 9"),
        ("{type: int, choices: 5}", "2:34: params.p.choices: wants a list of int"),
        ("{type: str, choices: [a, 1]}", "2:34: params.p.choices: wants a list of str"),
        ("{type: str, choices: [a, b], default: c}", "2:51: params.p: 'c' is not one of 'a', 'b'"),
        ("{type: int, help: [x]}", "2:31: params.p.help: wants a text, got a list"),
        (
            "{type: Clip, default: 5}",
            "2:35: params.p: a Clip is given by a run; it can have no default but null",
        ),
    ],
)
def test_what_is_wrong_in_a_parameter(param: str, wanted: str) -> None:
    """Types, defaults, bounds and choices are checked where they stand."""
    assert messages(f"{HEAD}params: {{p: {param}}}\n") == [wanted]


def test_the_default_of_a_parameter_meets_the_setting() -> None:
    """A default that the setting refuses is shown where the parameter is used."""
    text = (START + "  a: {node: loom_sort, beads: $patches, keep: $keep}\n").replace(
        "default: 5", "default: 600"
    )
    assert messages(text) == ["9:47: a.keep: 600 is outside 1..576 (the default of parameter keep)"]


def test_no_utf_8(tmp_path: Path) -> None:
    """A Latin-1 file names the byte and its place."""
    assert messages(b"tokenloom: 1\ntitle: caf\xe9\n", tmp_path) == [
        "2:11: byte 0xe9 is no UTF-8; save the file as UTF-8"
    ]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """The size is looked at first."""
    assert messages(b"#" * 1_000_001, tmp_path) == [
        "1:1: the file has 1000001 bytes; a graph file has at most 1000000"
    ]


def test_mistakes_in_the_base_name_the_base(tmp_path: Path) -> None:
    """What an inherited node does wrong is shown in the file it stands in."""
    text = "tokenloom: 1\nextends: base.yaml\nnodes: {patches: null, new: {node: loom_srt}}\n"
    base = START.replace("keep: {type: int, default: 5}", "keep: {type: itn}")
    assert messages(text, tmp_path, base=base) == [
        "3:36: new: no node is called 'loom_srt'; did you mean 'loom_sort'?",
        "base.yaml:3:16: params.keep: no type is called 'itn'; did you mean 'int'?",
        "base.yaml:8:36: picked.beads: nothing is called 'patches'; removed at x.yaml:3: wire something "
        "else to picked.beads there",
    ]


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("extends: bse.yaml", "2:10: bse.yaml: no such file; did you mean 'base.yaml'?"),
        (
            "extends: base/lava15",
            "2:10: base/lava15: no such graph file, and no built-in graph is called that; did you mean "
            "'base/llava15'?",
        ),
        ("extends: 5", "2:10: extends: wants the name of a graph file"),
        ("extends: x.yaml", "2:10: these files extend each other: x.yaml -> x.yaml"),
        (
            "extends: base.yaml\nnodes: {pickt: null}",
            "3:9: null removes a node, but none is inherited as 'pickt'; did you mean 'picked'?",
        ),
        (
            "extends: base.yaml\nparams:\n  keep: 20",
            "4:9: params.keep: wants a mapping; write keep: {default: 20}",
        ),
        (
            "extends: base.yaml\nparams:\n  keep: [a, 2.5, true]",
            '4:9: params.keep: wants a mapping; write keep: {default: ["a", 2.5, true]}',
        ),
        (
            "nodes:\n  a: {node: ./branch.yml}",
            "3:13: a: branch.yml: no such file; did you mean 'branch.yaml'?",
        ),
        ("nodes: {a: {node: x.yaml}}", "2:19: a: these files contain each other: x.yaml -> x.yaml"),
        ("nodes: {a: {node: branch.yaml}}", "2:9: a: nothing is connected to beads (Beads)"),
        (
            "extends: base.yaml\nnodes: {a: {node: branch.yaml, beads: $film}}",
            "3:39: a/picked.beads wants Beads, but film gives Clip",
        ),
        (
            "extends: base.yaml\nnodes: {a: {node: branch.yaml, beads: $patches, keep: 600}}",
            "3:55: a/picked.keep: 600 is outside 1..576",
        ),
        (
            "extends: base.yaml\nnodes: {a: {node: branch.yaml, beads: $patches, kep: 6}}",
            "3:49: a: no input or setting is called 'kep'; did you mean 'keep'?",
        ),
        (
            "extends: base.yaml\nnodes: {a: {node: branch.yaml, beads: $patches}}\noutputs: {o: $a}",
            "4:14: output o: a has several outputs; say which: kept or rest",
        ),
        (
            "extends: base.yaml\nnodes: {a: {node: branch.yaml, beads: $patches}}\noutputs: {o: $a.kep}",
            "4:14: output o: a has no output 'kep'; did you mean 'kept'?",
        ),
    ],
)
def test_what_is_wrong_between_files(lines: str, wanted: str, tmp_path: Path) -> None:
    """Missing files, circles of files, and composites that are used wrongly."""
    branch = """\
tokenloom: 1
params: {beads: {type: Beads}, keep: {type: int, default: 5}}
nodes: {picked: {node: loom_sort, beads: $beads, keep: $keep}}
outputs: {kept: $picked.kept, rest: $picked.rest}
"""
    assert messages(f"{HEAD}{lines}\n", tmp_path, base=START, branch=branch) == [wanted]


def test_a_long_circle_of_files_names_them_all(tmp_path: Path) -> None:
    """The chain of `extends` is shown up to where it closes."""
    a, b = "tokenloom: 1\nextends: b.yaml\n", "tokenloom: 1\nextends: a.yaml\n"
    assert messages("tokenloom: 1\nextends: a.yaml\n", tmp_path, a=a, b=b) == [
        "b.yaml:2:10: these files extend each other: x.yaml -> a.yaml -> b.yaml -> a.yaml"
    ]


def test_when_cannot_be_decided_twice(tmp_path: Path) -> None:
    """A composite with `when` around a node with its own parameter for `when` is refused."""
    branch = """\
tokenloom: 1
params: {on: {type: bool}}
nodes: {film: {node: loom_clip, when: $on}}
"""
    text = """\
tokenloom: 1
params: {p: {type: bool}, q: {type: bool}}
nodes: {a: {node: branch.yaml, on: $p, when: $q}}
"""
    assert messages(text, tmp_path, branch=branch) == [
        "3:46: a.when: a node inside has a parameter for its own when"
    ]


def test_a_hundred_mistakes_are_enough() -> None:
    """A file that is wrong everywhere ends soon, with the first hundred."""
    lines = "".join(f"  n{i}: {{node: loom_join, kept: $m{i}}}\n" for i in range(300))
    assert len(messages(f"{HEAD}nodes:\n{lines}")) == 100


def test_a_missing_base_is_said_once(tmp_path: Path) -> None:
    """What the base would have said is unknown, so nodes that only change it are not blamed."""
    text = "tokenloom: 1\nextends: base/llava16.yaml\nnodes:\n  patches: {layer: -2}\n"
    assert messages(text, tmp_path) == [
        "2:10: base/llava16.yaml: no such file; did you mean 'base/llava15.yaml'?"
    ]
