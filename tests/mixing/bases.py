"""The bundled bases, on a picture, two of different shapes, and a clip: each up to its tower's patches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

from PIL import Image

from tests.checkpoints import write_word_tokenizer
from tests.qwen import write_qwen
from tests.runtime.models.test_video_llava import write_video_llava
from tokenloom import load, nodes, run
from tokenloom.runtime.graph import Graph, Wire
from tokenloom.runtime.registry import all_nodes

CLIP = Path(__file__).parents[2] / "examples" / "media" / "shapes.mp4"
FRAMES = 3
HANDLES = ("vision", "projector", "llm", "chat")
Media = Literal["a picture", "two pictures", "a clip"]


@dataclass(frozen=True)
class Base:
    """graph: bundled. checkpoint: bundled, or made for the test. projector: the node that it has.

    pooled: the grid that frames are pooled to first, where the graph has one. layout: the node that puts its
    visual tokens in order; "": none. params: of the graph.
    """

    graph: str
    media: Media
    checkpoint: str
    projector: str = "project_mlp"
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    pooled: tuple[int, int] | None = None
    layout: str = ""

    @property
    def name(self) -> str:
        """As the page has it."""
        return f"{self.graph}, {self.media}"

    @property
    def thorough(self) -> bool:
        """It is the last of its graph's, on which pairs are mixed, too."""
        return self is [base for base in BASES.values() if base.graph == self.graph][-1]

    def opened(self) -> tuple[Graph, dict[str, Any]]:
        """The graph up to patches and prompt, with what it is given: the model's handles among it."""
        graph, given = _head(self.graph, self.media), self._given()
        found = run(graph, outputs=[f"model.{name}" for name in HANDLES], cache=False, **given)
        head = graph.copy()
        del head.steps["model"]
        types = all_nodes()["load_model"].outputs
        ends: dict[Any, Any] = {Wire("model", name): head.param(name, types[name]) for name in HANDLES}
        for name, step in head.steps.items():
            wires = {key: tuple(ends.get(end, end) for end in some) for key, some in step.wires.items()}
            head.steps[name] = replace(step, wires=wires)
        head.types.forget()
        handles = {name: found[f"model.{name}"] for name in HANDLES}
        return head, {name: value for name, value in given.items() if name != "checkpoint"} | handles

    def _given(self) -> dict[str, Any]:
        checkpoint = made(self.checkpoint) if self.checkpoint in MADE else self.checkpoint
        return {**self.params, "checkpoint": checkpoint, self._media: media(self.media)}

    @property
    def _media(self) -> str:
        return next(name for name in ("image", "video", "media") if name in load(self.graph).params)


def _bases() -> tuple[Base, ...]:
    three: tuple[Media, ...] = ("a picture", "two pictures", "a clip")
    shuffle, pvc, packer = "project_pixel_shuffle", "project_pvc", "project_tokenpacker"
    unpad = "pack_spatial_unpad"
    few, most = {"max_num": 2}, {"patch_num": 3}
    return (
        *(Base("llava15", media, "tiny-random") for media in three),
        *(Base("llava_next", media, "tiny-random-next", layout=unpad) for media in three),
        *(Base("onevision_image", media, "tiny-random-onevision", layout=unpad) for media in three[:2]),
        Base("onevision", "a clip", "tiny-random-onevision", pooled=(6, 6), layout="append_newline"),
        Base("pllava", "a clip", "tiny-random-pllava", pooled=(8, 8)),
        *(Base("tokenpacker", media, "tiny-random-tokenpacker", packer) for media in three),
        *(
            Base("tokenpacker_hd", media, "tiny-random-tokenpacker", packer, most, layout="assemble_hd")
            for media in three[:2]
        ),
        *(Base("internvl2", media, "tiny-random-internvl2", shuffle, few) for media in three),
        *(Base("pvc", media, "tiny-random-pvc", pvc, few) for media in three),
        Base("base/qwen25vl", "a picture", "a tiny Qwen2.5-VL", "project_merger"),
        Base("video_llava", "a clip", "a tiny Video-LLaVA"),
    )


def _write_video_llava(folder: Path) -> None:
    write_video_llava(folder)
    write_word_tokenizer(folder, ["What", "happens", "in", "the", "video"])


MADE = {"a tiny Qwen2.5-VL": write_qwen, "a tiny Video-LLaVA": _write_video_llava}
BASES = {base.name: base for base in _bases()}


@cache
def folder() -> Path:
    """Where pictures and checkpoints lie that were made for the test."""
    return Path(mkdtemp(prefix="tokenloom-mixing-"))


@cache
def made(checkpoint: str) -> str:
    """The folder of a checkpoint that is none of the bundled ones."""
    place = folder() / checkpoint.split()[-1]
    MADE[checkpoint](place)
    return str(place)


@cache
def media(kind: Media) -> Path | list[Path]:
    """Pictures with edges in them, one wide and one high; or the example's clip."""
    if kind == "a clip":
        return CLIP
    wide, high = (_drawn(*size) for size in ((96, 64), (48, 80)))
    return wide if kind == "a picture" else [wide, high]


def _drawn(width: int, height: int) -> Path:
    picture = Image.radial_gradient("L").resize((width, height)).convert("RGB")
    picture.paste((200, 40, 30), (width // 8, height // 8, width // 3, height // 2))
    picture.paste((30, 90, 220), (width // 2, height // 3, width - 4, height - 8))
    file = folder() / f"{width}x{height}.png"
    picture.save(file)
    return file


@cache
def _head(name: str, kind: Media) -> Graph:
    graph = load(name)
    if kind == "a clip" and graph.steps["frames"].type is nodes.load_image:
        graph.replace("frames", nodes.load_media)
    if "frames" in graph.steps["frames"].type.widgets:
        graph.set("frames", frames=FRAMES)
    wanted, stack = set[str](), ["patches", "prompt"]
    while stack:
        name = stack.pop()
        wanted.add(name)
        stack += graph.steps[name].sources
    graph.steps = {name: step for name, step in graph.steps.items() if name in wanted}
    graph.outputs = {}
    graph.types.forget()
    return graph
