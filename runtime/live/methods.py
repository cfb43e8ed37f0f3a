"""Which graph a method is for a family of models: built-in ones are put on the family's own base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import GraphError, LoomError
from ..graph import Graph
from ..layers import builtin_graphs, locate
from ..yamlfile import load
from .graft import PLURAL, Form, Media, graft
from .parts import Family

# A method whose graph for a family is more than the same steps on another base.
OWN: Mapping[tuple[str, Family, Media], str] = {
    ("visionzip", "llava_next", "image"): "visionzip_next",
    ("visionzip", "llava_onevision", "image"): "visionzip_onevision",
    ("visionzip", "llava_onevision", "video"): "visionzip_onevision_video",
    ("prunevid", "llava_onevision", "video"): "prunevid_onevision",
}
_PICTURES = ("base/llava15", "base/llava_next")
# What stands in the place of a base that a graph extends, for this family's pictures and clips.
BASES: Mapping[Family, Mapping[Media, Mapping[str, str]]] = {
    "llava": {"image": {}},
    "llava_next": {"image": {"base/llava15": "base/llava_next"}},
    "llava_onevision": {
        "image": dict.fromkeys(_PICTURES, "onevision_image"),
        "video": dict.fromkeys((*_PICTURES, "base/pllava"), "base/onevision"),
    },
}


def forms(method: str | Path | Graph, family: Family, grid: int) -> dict[Media, Form | LoomError]:
    """The method for the pictures and for the clips of a family; or why there is none.

    A graph that was built in Python is taken as it is; a file, and what it extends, up to a built-in base.
    grid: patches along the side of a tile. Errors: those of `load` and `graft`, when there is no form at all.
    """
    found: dict[Media, Form | LoomError] = {}
    for media, bases in BASES[family].items():
        try:
            if isinstance(method, Graph):
                form = graft(method)
            else:
                form = _pooled(graft(_loaded(method, family, media)), grid, bases)
        except LoomError as error:
            found[media] = error
            continue
        found[media] = form if media in form.media else _other(form, media)
    if not any(isinstance(form, Form) for form in found.values()):
        raise next(error for error in found.values() if isinstance(error, LoomError))
    return found


def _pooled(form: Form, grid: int, bases: Mapping[str, str]) -> Form:
    """LLaVA-OneVision pools a clip's frames to half of the model's own grid, rounded up."""
    param = form.graph.params.get("grid")
    if param is not None and "base/onevision" in bases.values():
        half = -(-grid // 2)
        form.graph.params["grid"] = replace(param, default=(half, half))
    return form


def _loaded(method: str | Path, family: Family, media: Media) -> Graph:
    if not isinstance(method, str | Path):
        raise GraphError(
            f"compress.graph: {type(method).__name__}; wanted the name of a graph, a file, or a Graph"
        )
    name, bases = str(method).removesuffix(".yaml"), BASES[family][media]
    if name in builtin_graphs() and not Path(str(method)).is_file():
        method = OWN.get((name, family, media), name)
        bases = {} if name.startswith("base/") else bases
    return load(locate(str(method)), instead=bases)


def _other(form: Form, media: Media) -> GraphError:
    [made] = form.media
    return GraphError(
        f"compress.graph: {form.graph.title!r} is for {PLURAL[made]}; for {PLURAL[media]} take another graph"
    )


def settings_of(form: Form, settings: Mapping[str, Any]) -> Form:
    """The form with other settings, by `step.setting`; those of steps that it lacks are left out."""
    if not settings:
        return form
    graph = form.graph.copy()
    for name, value in settings.items():
        step, _, setting = name.rpartition(".")
        if step in graph.steps:
            graph.set(step, **{setting: value})
    return replace(form, graph=graph)
