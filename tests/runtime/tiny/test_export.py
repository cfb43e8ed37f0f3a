"""A model in training and its checkpoint are one model, for tokenloom and for transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tokenloom import nodes
from tokenloom.runtime.context import demand
from tokenloom.runtime.needs import Need
from tokenloom.runtime.tiny.export import export
from tokenloom.runtime.tiny.packer import LEVELS
from tokenloom.runtime.tiny.samples import Sample, collate, make_sample, prefix_ids
from tokenloom.runtime.tiny.training import MODELS
from tokenloom.runtime.tiny.words import make_tokenizer
from tokenloom.runtime.values import Frames

from .recipes import SIZES

TOLERANCE = 2e-4  # scores reach 4; two frames that change places make 6e-3
KINDS = tuple(MODELS)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The tokeniser of the tiny models."""
    return make_tokenizer()


@pytest.fixture(scope="module")
def written(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """A model of a kind with strong random weights that float16 holds, and its checkpoint."""
    made: dict[str, tuple[Any, Path]] = {}

    def write(kind: str) -> tuple[Any, Path]:
        if kind not in made:
            torch.manual_seed(3)
            model = MODELS[kind](SIZES, len(tokenizer)).eval()
            for name, weight in model.named_parameters():
                sharp = 8 if weight.ndim == 2 and name.startswith(("llm.", "temporal.")) else 1
                weight.data = (weight.data * sharp).half().float()
            folder = tmp_path_factory.mktemp(kind) / "model"
            export(model, tokenizer, folder, {"seed": 3})
            made[kind] = model, folder
        return made[kind]

    return write


def sample_of(tokenizer: Any, frames: int) -> Sample:
    """One question about one picture or clip."""
    return make_sample(tokenizer, 0, "test", 3, frames=frames, questions=1, grid=SIZES.grid)


def question_of(tokenizer: Any, sample: Sample) -> str:
    """Its words."""
    asked: str = tokenizer.decode(sample.ids).split("\n")[1]
    return asked.partition(" ASSISTANT")[0]


def trained(model: Any, tokenizer: Any, sample: Sample) -> Tensor:
    """Scores [V] of the first token of the answer, by the model in training."""
    batch = collate([sample], tokenizer.pad_token_id)
    prefix = torch.tensor(prefix_ids(tokenizer))
    with torch.no_grad():
        logits, _ = model.read(model.look(batch.pixels).visual, batch, prefix)
    first = next(i for i, target in enumerate(sample.target) if target >= 0)
    found: Tensor = logits[0, first]
    return found


def loomed(kind: str, folder: Path, sample: Sample, question: str) -> Tensor:
    """The same by tokenloom's nodes."""
    model = nodes.load_model(checkpoint=str(folder), dtype="float32", device="cpu")
    pixels = torch.from_numpy(sample.frames)
    clip = len(pixels) > 1
    frames = (
        Frames.of_video(pixels, torch.arange(len(pixels))) if clip else Frames((pixels[0],), torch.zeros(1))
    )
    if kind == "pvc":
        tiles = nodes.repeat_frames(nodes.tile_dynamic(model.chat, frames), model.vision)
        visual = nodes.project_pvc(model.projector, nodes.encode_pvc(model.vision, tiles))
    else:
        with demand(*(Need("hidden", layer) for layer in LEVELS)):
            patches = nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames))
        project = nodes.project_tokenpacker if kind == "tokenpacker" else nodes.project_mlp
        visual = project(model.projector, patches)
    prompt = nodes.render_chat(model.chat, frames, question=question)
    state = nodes.prefill(model.llm, nodes.place_tokens(model.llm, prompt, visual))
    return nodes.read_logits(model.llm, state).values[0]


@pytest.mark.parametrize("frames", [1, 4], ids=["picture", "clip"])
@pytest.mark.parametrize("kind", KINDS)
def test_tokenloom_reads_it(
    kind: str, frames: int, tokenizer: Any, written: Callable[[str], tuple[Any, Path]]
) -> None:
    """Chat template, pixels, tower, projector and language model together give the scores of training."""
    model, folder = written(kind)
    sample = sample_of(tokenizer, frames)
    found = loomed(kind, folder, sample, question_of(tokenizer, sample))
    torch.testing.assert_close(found, trained(model, tokenizer, sample), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("by", ["text", "template"])
def test_transformers_reads_tiny_llava(
    by: str, tokenizer: Any, written: Callable[[str], tuple[Any, Path]]
) -> None:
    """Stock processor and model, prompted by text or by the chat template, give the scores of training."""
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessorPil,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    model, folder = written("llava")
    sample = sample_of(tokenizer, 1)
    question = question_of(tokenizer, sample)
    told = json.loads((folder / "processor_config.json").read_text())
    del told["processor_class"]
    processor: Any = LlavaProcessor(
        CLIPImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), **told
    )
    text = f"USER: <image>\n{question} ASSISTANT:"
    if by == "template":
        content = [{"type": "image"}, {"type": "text", "text": question}]
        turns = [{"role": "user", "content": content}]
        text = processor.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    stock: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        inputs = processor(text=text, images=Image.fromarray(sample.frames[0]), return_tensors="pt")
        found = stock(**inputs).logits[0, -1]
    torch.testing.assert_close(found, trained(model, tokenizer, sample), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_stands_beside_the_weights(kind: str, written: Callable[[str], tuple[Any, Path]]) -> None:
    """training.json is part of the checkpoint; the heads of the training are not."""
    from safetensors import safe_open

    _, folder = written(kind)
    assert json.loads((folder / "training.json").read_text()) == {"seed": 3}
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = list(file.keys())
        assert {file.get_tensor(name).dtype for name in names} == {torch.float16}
    assert not [name for name in names if "heads." in name or name.startswith("cls")]


def test_the_chat_template() -> None:
    """Pictures are written where they stand, in parts and in plain text, and turns follow each other."""
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "Why?"},
    ]
    text = make_tokenizer().apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "USER: <image>\nWhat? ASSISTANT: red</s>USER: Why? ASSISTANT:"
