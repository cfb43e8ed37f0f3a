"""Eight deliberate wiring mistakes; test_wiring.py asserts that type checkers report exactly these lines."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from tokenloom import Graph
from tokenloom.nodes import (
    encode_vision,
    load_image,
    load_model,
    load_video,
    merge_contextual,
    place_tokens,
    preprocess,
    project_mlp,
    render_chat,
    sample_frames,
    select_dominant,
)
from tokenloom.runtime.values import Patches, VisualTokens

with Graph() as graph:
    picture = load_image(path=Path("cat.jpg"))
    clip = load_video(path=Path("cat.mp4"))
    model = load_model(checkpoint="tiny")

    right = sample_frames(clip, frames=8, rule="uniform")

    wrong_socket = sample_frames(picture, frames=8)  # wrong
    wrong_widget = sample_frames(clip, frames="8")  # wrong
    bad_literal = sample_frames(clip, rule="unifrom")  # wrong
    unknown_output = model.visoin  # wrong
    missing_input = sample_frames(frames=8)  # wrong
    unknown_widget = sample_frames(clip, frame=8)  # wrong

    patches = encode_vision(model.vision, preprocess(model.chat, picture), features="cls_patch")
    prompt = render_chat(model.chat, picture, question="What is it?")
    early = select_dominant(patches)
    late = select_dominant(project_mlp(model.projector, patches))
    assert_type(early.kept, Patches)
    assert_type(late.kept, VisualTokens)
    merged = merge_contextual(late.kept, late.rest)
    assert_type(merged, VisualTokens)

    right_class = place_tokens(model.llm, prompt, merged, late.kept)
    wrong_class = place_tokens(model.llm, prompt, early.kept)  # wrong
    wrong_merged = place_tokens(model.llm, prompt, merge_contextual(early.kept, early.rest))  # wrong
