"""VisionZip on LLaVA-NeXT: the same graph as `tokenloom run visionzip_next`."""

from __future__ import annotations

import sys
from pathlib import Path

from tokenloom import Graph, nodes, run

SAMPLE = Path(__file__).parent / "media" / "shapes.png"


def visionzip_next(image: Path, checkpoint: str, question: str = "What is in the picture?") -> Graph:
    """27 dominant and 5 contextual tokens of every tile, and the answer."""
    with Graph("VisionZip on LLaVA-NeXT (1.6), every tile compressed alone") as g:
        model = nodes.load_model(checkpoint=checkpoint)
        frames = nodes.load_image(path=image)
        tiles = nodes.preprocess(model.chat, frames, aspect="anyres")
        patches = nodes.encode_vision(model.vision, tiles, layer=-2, features="cls_patch")
        kept, rest = nodes.select_dominant(patches, keep=27)
        merged = nodes.merge_contextual(kept, rest, targets=5)
        visual = nodes.project_mlp(model.projector, merged)
        packed = nodes.pack_visionzip_next(visual, model.projector)
        prompt = nodes.render_chat(model.chat, frames, question=question)
        state = nodes.prefill(model.llm, nodes.place_tokens(model.llm, prompt, packed))
        answer = nodes.generate(model.llm, state, model.chat, max_new_tokens=64)
        g.output(answer=answer.text, tokens=packed)
    return g


if __name__ == "__main__":
    checkpoint = sys.argv[1] if sys.argv[1:] else "llava-hf/llava-v1.6-vicuna-7b-hf"
    print(run(visionzip_next(Path(sys.argv[2]) if sys.argv[2:] else SAMPLE, checkpoint))["answer"])
