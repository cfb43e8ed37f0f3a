"""PVC's three uses, by one graph, the same as `tokenloom run pvc`: a picture, several pictures, a clip.

    python examples/pvc.py [FILE] [QUESTION]

PVC's modelling code could not be read; its modules are as we understand the paper, see docs/methods/pvc.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenloom import Graph, nodes, run

MEDIA = Path(__file__).parent / "media"
PICTURE, CLIP = MEDIA / "shapes.png", MEDIA / "shapes.mp4"


def pvc(
    media: Path | tuple[Path, ...],
    question: str = "What is shown?",
    checkpoint: str = "tiny-pvc",
    count: int = 64,
) -> Graph:
    """64 tokens of every frame of a clip, and of the four copies that make a tile of a picture a video."""
    with Graph("PVC") as g:
        model = nodes.load_model(checkpoint=checkpoint)
        frames = nodes.load_media(path=media, rule="internvl", frames=count)
        tiles = nodes.tile_dynamic(model.chat, frames)
        seen = nodes.repeat_frames(tiles, model.vision)
        patches = nodes.encode_pvc(model.vision, seen)
        visual = nodes.project_pvc(model.projector, patches)
        prompt = nodes.render_chat(model.chat, frames, question=question)
        placed = nodes.place_tokens(model.llm, prompt, visual)
        state = nodes.prefill(model.llm, placed)
        answer = nodes.generate(model.llm, state, model.chat, max_new_tokens=64)
        g.output(answer=answer.text, tokens=visual)
    return g


USES: dict[str, Path | tuple[Path, ...]] = {
    "Describe the picture.": PICTURE,
    "What do the two pictures have in common?": (PICTURE, PICTURE),
    "Describe the clip.": CLIP,
}


if __name__ == "__main__":
    asked = {" ".join(sys.argv[2:]) or "What is shown?": Path(sys.argv[1])} if sys.argv[1:] else USES
    for question, media in asked.items():
        result = run(pvc(media, question))
        print(f"{question}\n{result['answer']}\n({len(result['tokens'])} visual tokens)\n")
