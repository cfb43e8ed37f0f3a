"""PruneVid on PLLaVA: the same graph as `tokenloom run prunevid`."""

from __future__ import annotations

import sys
from pathlib import Path

from tokenloom import Graph, nodes, run

SAMPLE = Path(__file__).parents[1] / "graphs" / "media" / "scene.mp4"


def prunevid(
    video: Path, question: str = "What happens to the yellow ring?", checkpoint: str = "tiny-llava"
) -> Graph:
    """Alike tokens of 16 frames merged, then 40 % of them kept by the text's attention, and the answer."""
    with Graph("PruneVid on PLLaVA") as g:
        model = nodes.load_model(checkpoint=checkpoint)  # lora_alpha is 14, where there is LoRA
        frames = nodes.sample_frames(nodes.load_video(path=video), rule="pllava", frames=16)
        patches = nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames))
        visual = nodes.pool_tokens(nodes.project_mlp(model.projector, patches), model.projector)
        segments = nodes.cluster_temporal(visual, ratio=0.25)
        merged = nodes.cluster_spatial(nodes.merge_static(visual, segments, tau=0.8), ratio=0.5)
        prompt = nodes.render_chat(model.chat, frames, question=question)
        placed = nodes.place_tokens(model.llm, prompt, merged)
        early = nodes.prefill(model.llm, placed, part=11 / 32)  # through layer 10 of 32
        pruned = nodes.prune_by_attention(early, ratio=0.4)
        answer = nodes.generate(model.llm, nodes.prefill(model.llm, pruned), model.chat, max_new_tokens=64)
        g.output(answer=answer.text, tokens=nodes.read_tokens(pruned), merged=merged)
    return g


if __name__ == "__main__":
    print(run(prunevid(Path(sys.argv[1]) if sys.argv[1:] else SAMPLE))["answer"])
