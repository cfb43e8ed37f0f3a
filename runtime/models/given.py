"""What load_model is told in place of a checkpoint's config.json, which may leave it out or be wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Given:
    """Settings that stand before those of config.json; None: not given.

    scale_factor: of a TokenPacker. patch_num: crops of a picture at most (TokenPacker-HD). vision_tower: a
    folder or hub id, instead of mm_vision_tower.
    """

    scale_factor: int | None = None
    patch_num: int | None = None
    vision_tower: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """By the names that config.json has for them; not the tower, whose name tells layouts apart."""
        named = {"scale_factor": self.scale_factor, "patch_num": self.patch_num}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def tower(self) -> str | None:
        """Where the tower is: a folder here, not below the checkpoint."""
        if self.vision_tower is None:
            return None
        here = Path(self.vision_tower).expanduser()
        return str(here.resolve()) if here.is_dir() else self.vision_tower

    def source(self, key: str, where: str) -> str:
        """Who said what stands under `key` of the configuration: a widget of node `where`, or the file."""
        return f"{where}.{key}" if getattr(self, key, None) is not None else f"{key} of config.json"

    def __bool__(self) -> bool:
        return self != Given()

    def dump(self) -> str:
        """One line of JSON, for `Given.load`, from whatever folder."""
        values = asdict(self) | {"vision_tower": self.tower}
        return json.dumps({name: value for name, value in values.items() if value is not None})

    @classmethod
    def load(cls, text: str) -> Given:
        """What `dump` wrote; "" is nothing."""
        return cls(**json.loads(text)) if text else cls()

    def refuse(self, shown: str, name: str, why: str, where: str = "load_model") -> None:
        """A CheckpointError when `name`, given to the node `where`, means nothing for this checkpoint."""
        value = getattr(self, name)
        if value is not None:
            raise CheckpointError(f"{where}.{name}: {value}, but {shown} {why}; leave it out")
