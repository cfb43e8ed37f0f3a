"""FastV on LLaVA-1.5: the same graph as `tokenloom run fastv`."""

from __future__ import annotations

import sys
from pathlib import Path

from tokenloom import Graph, nodes, run

SAMPLE = Path(__file__).parents[1] / "graphs" / "media" / "scene.png"


def fastv(image: Path, question: str = "What colour is the ring?", checkpoint: str = "tiny-llava") -> Graph:
    """Half of the visual tokens for all layers but the first two, and the answer."""
    with Graph("FastV on LLaVA-1.5") as g:
        model = nodes.load_model(checkpoint=checkpoint)
        frames = nodes.load_image(path=image)
        patches = nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames))
        visual = nodes.project_mlp(model.projector, patches)
        prompt = nodes.render_chat(model.chat, frames, question=question)
        placed = nodes.place_tokens(model.llm, prompt, visual)
        early = nodes.prefill(model.llm, placed, until=2)
        pruned = nodes.prune_by_attention(
            early, drop=0.5, rows="last", attention="post_rope_causal", heads="mean", over="mean",
            select="global", rounding="round", rewrite_cache=False,
        )  # fmt: skip
        answer = nodes.generate(model.llm, nodes.prefill(model.llm, pruned), model.chat, max_new_tokens=64)
        g.output(answer=answer.text, tokens=nodes.read_tokens(pruned))
    return g


if __name__ == "__main__":
    print(run(fastv(Path(sys.argv[1]) if sys.argv[1:] else SAMPLE))["answer"])
