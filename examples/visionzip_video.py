"""VisionZip on a clip, frame by frame: the same graph as `tokenloom run visionzip_video`."""

from __future__ import annotations

import sys
from pathlib import Path

from tokenloom import Graph, nodes, run

SAMPLE = Path(__file__).parents[1] / "graphs" / "media" / "scene.mp4"


def visionzip_video(
    video: Path, question: str = "What colour is the ring?", checkpoint: str = "tiny-llava"
) -> Graph:
    """As many tokens of each of up to 32 frames as VisionZip leaves of a picture, and the answer."""
    with Graph("VisionZip on a video, frame by frame") as g:
        model = nodes.load_model(checkpoint=checkpoint)
        frames = nodes.sample_frames(nodes.load_video(path=video), frames=32, short="fewer")
        tiles = nodes.preprocess(model.chat, frames)
        patches = nodes.encode_vision(model.vision, tiles, layer=-2, features="cls_patch")
        kept, rest = nodes.select_dominant(patches)
        merged = nodes.merge_contextual(kept, rest)
        visual = nodes.project_mlp(model.projector, merged)
        prompt = nodes.render_chat(model.chat, frames, question=question)
        state = nodes.prefill(model.llm, nodes.place_tokens(model.llm, prompt, visual))
        answer = nodes.generate(model.llm, state, model.chat, max_new_tokens=64)
        g.output(answer=answer.text, tokens=merged)
    return g


if __name__ == "__main__":
    print(run(visionzip_video(Path(sys.argv[1]) if sys.argv[1:] else SAMPLE))["answer"])
