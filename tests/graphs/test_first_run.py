"""What a newcomer meets: a graph without arguments asks about the sample and answers right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from tokenloom import load, run
from tokenloom.nodes import load_image, load_model, load_video, render_chat, sample_frames
from tokenloom.runtime.cli import app
from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.layers import builtin_graphs
from tokenloom.runtime.models.hub import BUNDLED, bundled_names
from tokenloom.runtime.plan import plan
from tokenloom.runtime.tiny.samples import prefix_ids
from tokenloom.runtime.tiny.words import ASKED

MEDIA = Path(__file__).parents[2] / "graphs" / "media"
SCENES = json.loads((MEDIA / "scene.json").read_text("utf-8"))
READY = sorted(
    name for name in builtin_graphs() if not any(param.required for param in load(name).params.values())
)
PUBLISHED = {
    "internvl2": "an InternVL 2, 2.5 or 3, such as OpenGVLab/InternVL2-8B",
    "llava_next": "a LLaVA-NeXT, such as llava-hf/llava-v1.6-vicuna-7b-hf",
    "onevision": "a LLaVA-OneVision, such as llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "tokenpacker_hd": "a TokenPacker-HD, such as sunshine-lwt/TokenPacker-HD-7b-9patch-144token",
    "visionzip_onevision": "a LLaVA-OneVision, such as llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "visionzip_qwen25vl": "a Qwen2.5-VL, such as Qwen/Qwen2.5-VL-7B-Instruct",
}


def test_a_graph_for_every_method_is_ready() -> None:
    """On a trained model of its kind."""
    methods = ["fastv", "lookm", "prumerge", "prunevid", "pvc", "tokenpacker", "visionzip"]
    assert set(methods) < set(READY)


@pytest.mark.parametrize(
    "name", [name for name in READY if not name.startswith(("base/", "mixes/", "seen/"))]
)
def test_the_default_question_is_answered_right(name: str) -> None:
    """As the scene has it."""
    graph = load(name)
    media = next(graph.params[key] for key in ("image", "video", "media") if key in graph.params)
    file = cast("Path", media.default)
    question = graph.params["question"].default
    [answer] = [q["answer"] for q in SCENES[file.name]["questions"] if q["question"] == question]
    assert run(graph, cache=False)["answer"] == answer


def test_the_first_line_of_the_readme() -> None:
    """Words for people, one object for programs; from any folder."""
    done = CliRunner().invoke(app, ["run", "visionzip", "-q"])
    assert (done.exit_code, done.stderr, done.stdout.splitlines()[0]) == (0, "", "answer: orange")
    facts = json.loads(CliRunner().invoke(app, ["run", "visionzip", "--json"]).stdout)
    assert (facts["ok"], facts["outputs"]["answer"], facts["random_weights"]) == (True, "orange", False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_family_without_a_trained_model_names_published_ones(name: str) -> None:
    """Before any work."""
    with pytest.raises(GraphError) as error:
        plan(load(name))
    assert str(error.value) == (
        f"params.checkpoint has no value; wanted str (local folder or hub id of {PUBLISHED[name]}), for "
        "model.checkpoint"
    )


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_checkpoints_are_trained_and_small(name: str) -> None:
    """Every part loads; no card says that it means nothing."""
    loaded = load_model(checkpoint=name)
    for handle in loaded:
        assert isinstance(handle.load(), handle.kind)
    chat = loaded.chat.facts.chat
    assert chat is not None
    assert (chat.template, chat.random_weights) == ("tokenizer", False)
    assert sum(file.stat().st_size for file in (BUNDLED / name).rglob("*") if file.is_file()) < 8_000_000


@pytest.mark.parametrize("name", bundled_names())
def test_prompts_are_those_of_the_training(name: str) -> None:
    """One place for the tokens of a picture, or for those of all frames of a clip; no system text."""
    chat = load_model(checkpoint=name).chat
    tokenizer = chat.load().tokenizer
    question = "How many objects are there?"
    asked = tuple(tokenizer(ASKED.format(question=question), add_special_tokens=False).input_ids)
    clip = sample_frames(load_video(path=MEDIA / "scene.mp4"), frames=4)
    for frames, media in ((load_image(path=MEDIA / "scene.png"), "image"), (clip, "video")):
        before, slot, after = render_chat(chat, frames, question=question).pieces
        assert (before, getattr(slot, "media", None), after) == (tuple(prefix_ids(tokenizer)), media, asked)
