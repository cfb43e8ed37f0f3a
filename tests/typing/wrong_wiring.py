"""Six deliberate wiring mistakes; test_wiring.py asserts that type checkers report exactly these lines."""

from __future__ import annotations

from pathlib import Path

from tokenloom import Graph
from tokenloom.nodes import load_image, load_model, load_video, sample_frames

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
