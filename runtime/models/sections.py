"""The parts of a checkpoint: which family, which configuration, and where each tensor lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .configs import Json
from .handle import ModelFacts, TowerFacts
from .headers import Stored
from .lora import Update, take_updates
from .strict import compare, language_shapes

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One part of a checkpoint: its family, configuration, and where each of its tensors lies.

    cut: last layers that it should have and does not. added: PVC's own tensors, by our names. assumed: what
    of the configuration no file says.
    """

    family: str
    config: Json
    tensors: Mapping[str, Stored]
    tied: Mapping[str, str] = field(default_factory=dict[str, str])
    lora: Mapping[str, Update] = field(default_factory=dict[str, Update])
    cut: int = 0
    added: Mapping[str, Stored] = field(default_factory=dict[str, Stored])
    assumed: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds. `tower_from` is the tower's own folder when it lies apart.

    image_tower, image_tower_facts: of the second tower of Video-LLaVA, for pictures.
    """

    folder: Path
    tower_from: Path | None
    facts: ModelFacts
    tower: Section | None = None
    projector: Section | None = None
    language: Section | None = None
    image_tower: Section | None = None
    image_tower_facts: TowerFacts | None = None

    @property
    def tokenizer_files(self) -> list[Path]:
        """The tokenizer's files that are there."""
        return [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).is_file()]


def language_section(family: str, config: Json, found: dict[str, Stored], problems: list[str]) -> Section:
    """The language model among these tensors; what is wrong with them is added to `problems`."""
    wanted = language_shapes(family, config)
    tied: dict[str, str] = {}
    if config["tie_word_embeddings"]:  # one tensor; files may or may not repeat it
        tied = {"lm_head.weight": "model.embed_tokens.weight"}
        head = "output.weight" if family == "internlm2" else "lm_head.weight"
        wanted = {name: shape for name, shape in wanted.items() if name != head}
        found = {name: tensor for name, tensor in found.items() if name != head}
    plain, lora, wrong = take_updates(found, wanted)
    problems += [*compare("language model", wanted, plain), *wrong]
    return Section(family, config, plain, tied, lora)
