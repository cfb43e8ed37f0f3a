"""LLaVA-1.5 with every visual token: the same graph as `tokenloom run llava15`."""

from __future__ import annotations

import sys
from pathlib import Path

from tokenloom import Graph, nodes, run

SAMPLE = Path(__file__).parents[1] / "graphs" / "media" / "scene.png"


def llava15(image: Path, question: str = "What colour is the ring?", checkpoint: str = "tiny-llava") -> Graph:
    """Every patch of one picture, and the answer."""
    with Graph("LLaVA-1.5, every visual token") as g:
        model = nodes.load_model(checkpoint=checkpoint)
        frames = nodes.load_image(path=image)
        tiles = nodes.preprocess(model.chat, frames)
        patches = nodes.encode_vision(model.vision, tiles)
        visual = nodes.project_mlp(model.projector, patches)
        prompt = nodes.render_chat(model.chat, frames, question=question)
        state = nodes.prefill(model.llm, nodes.place_tokens(model.llm, prompt, visual))
        answer = nodes.generate(model.llm, state, model.chat, max_new_tokens=64)
        g.output(answer=answer.text, tokens=visual)
    return g


if __name__ == "__main__":
    print(run(llava15(Path(sys.argv[1]) if sys.argv[1:] else SAMPLE))["answer"])
