"""LLaVA-NeXT with every visual token: the same graph as `tokenloom run llava_next`."""

from __future__ import annotations

import sys
from pathlib import Path

from tokenloom import Graph, nodes, run

SAMPLE = Path(__file__).parent / "media" / "shapes.png"


def llava_next(image: Path, checkpoint: str, question: str = "What is in the picture?") -> Graph:
    """A base tile and a grid of tiles, unpadded, with newlines, and the answer."""
    with Graph("LLaVA-NeXT (1.6), every visual token") as g:
        model = nodes.load_model(checkpoint=checkpoint)
        frames = nodes.load_image(path=image)
        tiles = nodes.preprocess(model.chat, frames, aspect="anyres")
        patches = nodes.encode_vision(model.vision, tiles)
        visual = nodes.project_mlp(model.projector, patches)
        packed = nodes.pack_spatial_unpad(visual, model.projector)
        prompt = nodes.render_chat(model.chat, frames, question=question)
        state = nodes.prefill(model.llm, nodes.place_tokens(model.llm, prompt, packed))
        answer = nodes.generate(model.llm, state, model.chat, max_new_tokens=64)
        g.output(answer=answer.text, tokens=packed)
    return g


if __name__ == "__main__":
    checkpoint = sys.argv[1] if sys.argv[1:] else "llava-hf/llava-v1.6-vicuna-7b-hf"
    print(run(llava_next(Path(sys.argv[2]) if sys.argv[2:] else SAMPLE, checkpoint))["answer"])
