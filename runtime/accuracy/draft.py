"""One graph that holds every setting of a benchmark as a branch; what branches share stands in it once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from .. import registry
from ..errors import BenchError
from ..graph import Graph
from ..models.handle import ChatFacts, LanguageFacts, ProjectorFacts, TowerFacts

Medium = Literal["image", "video"]
MEDIA: tuple[Medium, ...] = ("image", "video")
NAMES: Mapping[Medium, str] = {"image": "pictures", "video": "clips"}


class Parts:
    """What a checkpoint is, read from its configuration alone. Errors: as load_model; BenchError."""

    def __init__(self, checkpoint: str, device: str = "auto", dtype: str = "auto") -> None:
        foresee = registry.find("load_model").foresee
        assert foresee is not None, "load_model foresees what it gives"
        loaded = foresee(checkpoint=checkpoint, device=device, dtype=dtype)
        tower, projector = loaded.vision.facts.tower, loaded.projector.facts.projector
        language, chat = loaded.llm.facts.language, loaded.chat.facts.chat
        assert all((tower, projector, language, chat)), "every checkpoint of a graph has its four parts"
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype
        self.tower: TowerFacts = tower
        self.projector: ProjectorFacts = projector
        self.language: LanguageFacts = language
        self.chat: ChatFacts = chat
        self.fingerprint = "-".join(
            part.fingerprint[:12] for part in (loaded.vision, loaded.projector, loaded.llm)
        )
        if not tower.grid:
            raise BenchError(
                f"{checkpoint}: its tower takes pictures of any size, so a part of their tokens is no fixed "
                "number; use a checkpoint with tiles of one size, such as tiny-llava"
            )

    @property
    def places(self) -> int:
        """Patches of a tile."""
        return self.tower.grid**2

    def layer(self, published: int, of: int = 32) -> int:
        """A layer of this depth as far down as the published one of `of`, at least the second."""
        return min(max(1, int(published / of * self.language.depth)), self.language.depth - 1)


class Draft:
    """The graph of one medium, and the steps that methods build on; each is written when it is first used.

    Parameters of the graph: `media` (a file), `question`, `seed` (of everything that is drawn).
    """

    def __init__(self, parts: Parts, medium: Medium, frames: int) -> None:
        self.parts, self.frames = parts, frames
        self.medium: Medium = medium
        self.graph = Graph(f"accuracy on {NAMES[medium]}")
        self.media = self.graph.param("media", Path)
        self.question = self.graph.param("question", str)
        self.seed = self.graph.param("seed", int, default=0)
        self._made: dict[Any, Any] = {}
        self.model = self.add("load_model", checkpoint=parts.checkpoint)

    def add(self, node: str, *sockets: Any, **widgets: Any) -> Any:
        """A step, the edge of what it gives."""
        return self.graph.add(registry.find(node), sockets, widgets)

    @property
    def whole_grid(self) -> bool:
        """Whether the projector takes all patches of a tile or none."""
        return self.parts.projector.kind in ("tokenpacker", "pixel_shuffle") or bool(self.parts.tower.pvc)

    def seen(self, frames: int | None = None) -> Any:
        """The tower's tokens, with [CLS] where there is one; of so many frames of the clip."""
        frames = self.frames if frames is None else frames
        return self._once(("seen", frames), lambda: self._encoded(self._tiles(frames)))

    def patches(self, frames: int | None = None) -> Any:
        """The same without [CLS]: what the uncompressed model projects."""
        seen = self.seen(frames)
        if not self._with_cls:
            return seen
        number = frames if frames is not None else self.frames
        return self._once(
            ("patches", number),
            lambda: self.add("select_uniform", seen, keep=self.parts.places, cls_token="drop").kept,
        )

    def numbered(self) -> Any:
        """The tower's tokens, which keep their places in the prompt whatever is selected."""
        return self._once("numbered", lambda: self.add("number_tokens", self.seen()))

    def projected(self, tokens: Any) -> Any:
        """Visual tokens of the language model's width."""
        projector, pvc = self.model.projector, self.parts.tower.pvc
        kind = self.parts.projector.kind
        name = {"tokenpacker": "project_tokenpacker", "pixel_shuffle": "project_pixel_shuffle"}.get(kind)
        return self.add("project_pvc" if pvc else name or "project_mlp", projector, tokens)

    def visual(self) -> Any:
        """Every visual token."""
        return self._once("visual", lambda: self.projected(self.patches()))

    def placed(self, visual: Any) -> Any:
        """The prompt with these visual tokens in it."""
        prompt = self._once(
            "prompt",
            lambda: self.add(
                "render_chat", self.model.chat, self._frames(self.frames), question=self.question
            ),
        )
        return self.add("place_tokens", self.model.llm, prompt, visual)

    def everything(self) -> Any:
        """The prompt with every visual token."""
        return self._once("placed", lambda: self.placed(self.visual()))

    def early(self, inputs: Any, layers: int) -> Any:
        """The state after so many layers; one of the uncompressed prompt for all who ask."""
        if inputs is self._made.get("placed"):
            return self._once(("early", layers), lambda: self.run(inputs, layers))
        return self.run(inputs, layers)

    def late(self, reader: str = "") -> Any:
        """The state of the uncompressed prompt after all layers.

        reader: who reads its attention and so gets one of their own, for the others are not to pay for it.
        """
        return self._once(("late", reader), lambda: self.run(self.everything(), None))

    def run(self, inputs: Any, layers: int | None) -> Any:
        """The state after so many layers, None: all."""
        return self.add("prefill", self.model.llm, inputs, until=layers)

    # -- in front of the language model --------------------------------------------------------------------

    @property
    def _with_cls(self) -> bool:
        return self.parts.tower.has_cls and not self.whole_grid

    def _frames(self, frames: int) -> Any:
        if self.medium == "image":
            return self._once("frames", lambda: self.add("load_image", path=self.media))
        clip = self._once("clip", lambda: self.add("load_video", path=self.media))
        # both ends, as the clips were asked about; of one frame the middle
        rule = "linspace" if frames > 1 else "uniform"
        return self._once(
            ("frames", frames), lambda: self.add("sample_frames", clip, frames=frames, rule=rule)
        )

    def _tiles(self, frames: int) -> Any:
        tiles = self.add("preprocess", self.model.chat, self._frames(frames))
        return self.add("repeat_frames", tiles, self.model.vision) if self.parts.tower.pvc else tiles

    def _encoded(self, tiles: Any) -> Any:
        if self.parts.tower.pvc:
            return self.add("encode_pvc", self.model.vision, tiles)
        features = "cls_patch" if self._with_cls else "auto"
        return self.add("encode_vision", self.model.vision, tiles, features=features)

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
