"""Recipes and result files read back: as data, checked for form and size; nothing in them is run."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import GraphError
from ..excerpt import FileProblem, GraphFileError
from ..yamlfile import load
from ..yamltree import Broken, Marked, tree
from .forms import RECIPE, RESULT, wrong_output
from .recipe import FORMAT, KEYWORD, FilePrint, NodePrint, RunRecipe, checksum

if TYPE_CHECKING:
    from ..graph import Graph

PNG = b"\x89PNG\r\n\x1a\n"
MOST_TEXT = 8 * 2**20  # bytes of a recipe
MOST_CHUNKS = 100_000  # of a PNG
MOST_RESULT = 512 * 2**20  # bytes of a result file
RESULT_FORMAT = 1
MARK = "tokenloom_result"  # the key that says a JSON file is a result


def read_recipe(path: Path) -> RunRecipe:
    """The recipe in a PNG or result file.

    Errors: GraphError when the file is not there, is neither, holds no recipe, or one that was cut, changed
    by hand, or written in a newer form.
    """
    if is_png(path):
        text = _png_text(path)
        if text is None:
            raise GraphError(
                f"{path}: this PNG holds no recipe; tokenloom writes one into its own, but programs that "
                "scale or edit pictures, and websites, often take it out: use the file that tokenloom wrote"
            )
        return recipe_from(path, _parsed(path, text))
    facts = read_result(path)
    if facts.get("recipe") is None:
        raise GraphError(f"{path}: holds no recipe: the run that it tells of failed before it was planned")
    return recipe_from(path, facts["recipe"])


def is_png(path: Path) -> bool:
    """Whether a file starts as a PNG does. Errors: GraphError when it cannot be read."""
    with _opened(path) as file:
        return file.read(len(PNG)) == PNG


def read_result(path: Path) -> dict[str, Any]:
    """A result file as it was written. Errors: GraphError for whatever is none."""
    with _opened(path) as file:
        data = file.read(MOST_RESULT + 1)
    if len(data) > MOST_RESULT:
        raise GraphError(f"{path}: larger than {MOST_RESULT} bytes, which no result file is")
    facts = _parsed(path, data)
    if not isinstance(facts, dict) or MARK not in facts:
        raise GraphError(
            f"{path}: not a result file; wanted a PNG that tokenloom wrote, or what `tokenloom run ... "
            "--result FILE.json` writes"
        )
    if facts[MARK] != RESULT_FORMAT:
        raise GraphError(
            f"{path}: result format {facts[MARK]!r}; this tokenloom reads {RESULT_FORMAT}: update it"
        )
    for name, fits in RESULT.items():
        if name not in facts or not fits(facts[name]):
            what = "missing" if name not in facts else "of another kind"
            raise GraphError(f"{path}: the result has not the form that tokenloom writes: {name} is {what}")
    if name := wrong_output(facts):
        raise GraphError(f"{path}: the result has not the form that tokenloom writes: output {name}")
    return facts


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error.strerror}") from None


def _parsed(path: Path, text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if isinstance(text, str):
            raise GraphError(f"{path}: the recipe in it is no JSON; use an untouched copy") from None
        raise GraphError(
            f"{path}: neither a PNG nor a result file (JSON), or cut off; wanted a PNG that tokenloom wrote, "
            "or what `tokenloom run ... --result FILE.json` writes"
        ) from None


def _png_text(path: Path) -> str | None:
    """The text of the PNG's first chunk of our keyword; None when it has none. Pixels are not decoded."""
    head = KEYWORD.encode("latin-1") + b"\0"
    with _opened(path) as file:
        file.seek(len(PNG))
        for _ in range(MOST_CHUNKS):
            if len(start := file.read(8)) < 8:
                break
            length, kind = struct.unpack(">I4s", start)
            if kind != b"tEXt" or length > MOST_TEXT:
                file.seek(length + 4, 1)
                continue
            data, check = file.read(length), file.read(4)
            if data.startswith(head):
                if check != struct.pack(">I", zlib.crc32(kind + data)):
                    raise GraphError(f"{path}: the recipe in it is damaged (its CRC differs); fetch it again")
                return data[len(head) :].decode("latin-1")
    return None


def recipe_from(path: Path, facts: Any) -> RunRecipe:
    """The recipe of a record. Errors: GraphError for another format, a checksum or a form that is wrong."""
    if not isinstance(facts, dict):
        raise _misshapen(path, "it is no mapping")
    if facts.get("format") != FORMAT:
        came = facts.get("format")
        raise GraphError(f"{path}: a recipe of format {came!r}; this tokenloom reads {FORMAT}: update it")
    if facts.get("checksum") != checksum(facts):
        raise GraphError(
            f"{path}: the recipe was changed after tokenloom wrote it (its checksum differs); use an "
            "untouched copy, or write the graph down as YAML and run that"
        )
    for name, fits in RECIPE.items():
        if name not in facts or not fits(facts[name]):
            raise _misshapen(path, f"{name} is {'missing' if name not in facts else 'of another kind'}")
    plain = {name: facts[name] for name in RECIPE}
    plain["files"] = tuple(FilePrint(**one) for one in facts["files"])
    plain["nodes"] = {name: NodePrint(**one) for name, one in facts["nodes"].items()}
    plain["models"] = {name: tuple(prints) for name, prints in facts["models"].items()}
    return RunRecipe(**{**plain, "outputs": tuple(facts["outputs"])})


def _misshapen(path: Path, what: str) -> GraphError:
    return GraphError(f"{path}: the recipe has not the form that tokenloom writes: {what}")


def graph_from(path: Path, recipe: RunRecipe) -> Graph:
    """The graph of a recipe that lies in `path`.

    Errors: GraphError for a graph that could not be written down, or that names other files, which a recipe
    never does; GraphFileError for whatever is wrong in it.
    """
    if not recipe.graph:
        raise GraphError(f"{path}: the recipe has no graph ({recipe.lost}); run it in Python again")
    problems: list[FileProblem] = []
    try:
        root = tree(f"{path}: recipe", recipe.graph, problems.append)
    except Broken:
        raise GraphFileError(problems, {f"{path}: recipe": recipe.graph.split("\n")}) from None
    if names := list(_other_files(root)):
        raise GraphError(
            f"{path}: the recipe names another graph file ({names[0]!r}), and tokenloom never writes such a "
            "recipe; do not use this file"
        )
    graph = load(f"{path}: recipe", recipe.graph)
    graph.at = str(path)
    return graph


def _other_files(root: Marked) -> list[str]:
    """What a graph would read besides itself: the file that it extends, files that stand for nodes."""
    top: Mapping[str, Marked] = root.value if isinstance(root.value, dict) else {}
    nodes = top["nodes"].value if "nodes" in top else {}
    entries = [entry.value for entry in nodes.values()] if isinstance(nodes, dict) else []
    kinds = [entry["node"].value for entry in entries if isinstance(entry, dict) and "node" in entry]
    files = [kind for kind in kinds if isinstance(kind, str) and kind.endswith((".yaml", ".yml"))]
    return [*([str(top["extends"].value)] if "extends" in top else []), *files]
