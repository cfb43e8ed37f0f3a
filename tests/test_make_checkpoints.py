"""The checkpoints of tests/data: small, complete, and made by the script beside them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tokenloom.nodes.models import load_model

from .checkpoints import RANDOM

FACTS = {
    "tiny-random": ("vicuna_v1", "pad"),
    "tiny-random-internvl2": ("internlm2-chat", "dynamic"),
    "tiny-random-next": ("vicuna_v1", "anyres"),
    "tiny-random-onevision": ("qwen_1_5", "anyres"),
    "tiny-random-pllava": ("pllava", "pllava"),
    "tiny-random-pvc": ("internlm2-chat", "dynamic"),
    "tiny-random-tokenpacker": ("vicuna_v1", "pad"),
}
SCRIPT = Path(__file__).parent / "make_checkpoints.py"


def test_small() -> None:
    """All files together stay below 5 MB, and each file of weights below 700 kB."""
    sizes = {f: f.stat().st_size for f in RANDOM.rglob("*") if f.is_file()}
    assert sum(sizes.values()) < 5_000_000
    assert max(sizes.values()) < 700_000


@pytest.mark.parametrize("name", sorted(FACTS))
def test_loads_and_says_so(name: str) -> None:
    """Every part loads, and facts and card say that the weights are random."""
    loaded = load_model(checkpoint=name)
    for handle in loaded:
        assert isinstance(handle.load(), handle.kind)
    chat, image = loaded.chat.facts.chat, loaded.chat.facts.image
    assert chat is not None
    assert image is not None
    assert (chat.template, image.aspect, chat.random_weights) == (*FACTS[name], True)
    assert "**random weights**" in (RANDOM / name / "README.md").read_text()


def test_made_by_the_script(tmp_path: Path) -> None:
    """The script writes the same tensors and configuration again."""
    runpy.run_path(str(SCRIPT))["write_all"](tmp_path)
    made = sorted(f.relative_to(tmp_path) for f in tmp_path.rglob("*") if f.is_file())
    assert made == sorted(f.relative_to(RANDOM) for f in RANDOM.rglob("*") if f.is_file())
    for file in made:
        if file.suffix == ".safetensors":
            ours, again = load_file(RANDOM / file), load_file(tmp_path / file)
            assert ours.keys() == again.keys()
            assert all(ours[name].equal(again[name]) for name in ours)
        elif file.suffix == ".model":
            assert (RANDOM / file).read_bytes() == (tmp_path / file).read_bytes()
        elif file.name != "tokenizer.json":  # its form follows the version of tokenizers
            assert (RANDOM / file).read_text() == (tmp_path / file).read_text()


@pytest.mark.parametrize("name", ["tiny-random", "tiny-random-internvl2"])
def test_speaks_in_words(name: str) -> None:
    """Any text is tokenised without loss, and known words are one token each."""
    tokenizer = load_model(checkpoint=name).chat.load().tokenizer
    text = "Was heißt das? 一二 <x>\n"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert len(tokenizer(" red cat sits", add_special_tokens=False).input_ids) == 3
    assert tokenizer("a").input_ids[0] == tokenizer.bos_token_id == 1
