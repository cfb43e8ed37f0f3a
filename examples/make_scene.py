"""Draw a picture and a clip of the shapes benchmark's test split: `python examples/make_scene.py`.

Takes the first scenes that show what a newcomer wants to ask about: in the picture four objects of different
shapes and a digit, in the clip one object that moves, one that stays, one that appears, and a digit.
`scene.json` beside them says which scenes these are, and the answers. The sheets of docs/shapes.md are drawn
as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from tokenloom.runtime.shapes.files import write_mp4, write_png
from tokenloom.runtime.shapes.items import Item, Settings, items, make_item
from tokenloom.runtime.shapes.scene import Scene
from tokenloom.runtime.shapes.sheet import sheet

ROOT = Path(__file__).parents[1]
MEDIA = ROOT / "graphs" / "media"  # part of the package: what graphs are asked about when nothing is given
DOCS = ROOT / "docs"
PICTURE = Settings(split="test", number=1, questions=99)
CLIP = Settings(split="test", number=1, frames=16, fps=8.0, questions=99)


def first(settings: Settings, wanted: Callable[[Scene], bool]) -> Item:
    """The first scene of the split that is wanted."""
    return next(item for n in count() if wanted((item := make_item(settings, n)).scene))


def rich_picture(scene: Scene) -> bool:
    """Four objects of different shapes and both sizes, and a digit."""
    shapes = {thing.shape for thing in scene.things}
    sizes = {thing.size for thing in scene.things}
    return scene.digit is not None and len(shapes) == 4 and len(sizes) == 2


def rich_clip(scene: Scene) -> bool:
    """Large objects of different shapes with three fates, and a digit."""
    fates = sorted(thing.fate for thing in scene.things)
    shapes = {thing.shape for thing in scene.things}
    large = all(thing.size == "large" for thing in scene.things)
    return scene.digit is not None and fates == ["appears", "moves", "stays"] and len(shapes) == 3 and large


def facts(item: Item) -> dict[str, Any]:
    """Where the scene comes from, what is in it, and its questions with their answers."""
    made = item.settings
    asked = [{"question": q.text, "answer": q.answer, "kind": q.kind} for q in item.questions]
    return {"split": made.split, **item.facts(), "questions": asked}


def main() -> None:
    """Write the files and say which scenes were taken."""
    picture, clip = first(PICTURE, rich_picture), first(CLIP, rich_clip)
    MEDIA.mkdir(exist_ok=True)
    write_png(MEDIA / "scene.png", picture.pixels()[0])
    write_mp4(MEDIA / "scene.mp4", clip.pixels(), CLIP.fps)
    told = {"scene.png": facts(picture), "scene.mp4": facts(clip)}
    lines = [f"{json.dumps(name)}: {_readable(fact)}" for name, fact in told.items()]
    (MEDIA / "scene.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    write_png(DOCS / "shapes.png", sheet(list(items(Settings(number=12)))))
    write_png(DOCS / "shapes_clips.png", sheet(list(items(Settings(number=6, frames=8)))))
    for name, item in (("scene.png", picture), ("scene.mp4", clip)):
        print(f"{name}: test scene {item.index}, {(MEDIA / name).stat().st_size / 1000:.0f} kB")


def _readable(facts: dict[str, Any]) -> str:
    """JSON with one line per fact, question and object."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, list):
            inner = ",\n".join(f"    {json.dumps(one)}" for one in value)
            lines.append(f"  {json.dumps(name)}: [\n{inner}\n  ]")
        else:
            lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}"


if __name__ == "__main__":
    main()
