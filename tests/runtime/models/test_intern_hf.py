"""InternVL in the layout of transformers: the same facts and the same numbers as its native model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import Names
from tests.internvl import CONTEXT, SIDE, tiles, write_hf
from tokenloom.nodes import (
    encode_vision,
    load_model,
    place_tokens,
    prefill,
    project_pixel_shuffle,
    read_logits,
    render_chat,
)
from tokenloom.runtime.errors import CheckpointError


@pytest.mark.parametrize(("names", "tied"), [("4.x", False), ("5.x", True)])
def test_logits_are_the_native_models(tmp_path: Path, names: Names, tied: bool) -> None:
    """Names as hub files and as transformers 5 have them; a head that is not there is tied."""
    native = write_hf(tmp_path, names=names, tied=tied)
    model = load_model(checkpoint=str(tmp_path), dtype="float32", device="cpu")
    given = tiles(2, 1)
    visual = project_pixel_shuffle(model.projector, encode_vision(model.vision, given))
    prompt = render_chat(model.chat, question="what?", images=2)
    placed = place_tokens(model.llm, prompt, visual)
    ids = placed.ids.masked_fill(placed.visual, CONTEXT)
    with torch.no_grad():
        want = native(input_ids=ids[None], pixel_values=given.pixels).logits[0]
    got = read_logits(model.llm, prefill(model.llm, placed), rows="all").values
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_facts_are_those_of_a_released_checkpoint(tmp_path: Path) -> None:
    """Tiles from the processor's file; the shuffle without swapped rows and columns."""
    write_hf(tmp_path)
    facts = load_model(checkpoint=str(tmp_path)).vision.facts
    assert facts.tower is not None
    assert facts.projector is not None
    assert facts.chat is not None
    assert facts.image is not None
    assert (facts.tower.family, facts.tower.size, facts.tower.patch) == ("internvit", SIDE, 7)
    assert (facts.projector.kind, facts.projector.ps_version) == ("pixel_shuffle", "v2")
    assert (facts.chat.template, facts.chat.image_token) == ("internvl2_5", CONTEXT)
    assert (facts.image.aspect, facts.image.max_tiles, facts.image.thumbnail) == ("dynamic", 6, True)


def test_wrong_tensors_are_named(tmp_path: Path) -> None:
    """A final norm, as a tower without mean pooling has one, and a missing projection."""
    write_hf(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    names = {name for name in found if "vision_tower" in name}
    prefix = min(names).split("embeddings")[0].split("encoder")[0]
    found[f"{prefix}layernorm.weight"] = torch.ones(32)
    del found[f"{prefix}encoder.layer.2.attention.q_proj.weight"]
    save_file(found, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path}: the weights are not what the configuration says:\n"
        "  1 tensor of the vision tower missing: encoder.layer.2.attention.q_proj.weight [32, 32]\n"
        f"  1 tensor of the vision tower unknown: {prefix}layernorm.weight [32]\n"
        "Check that config.json and the weight files belong together."
    )


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    """Features with [CLS], tiles that are no squares."""
    write_hf(tmp_path, vision_feature_select_strategy="full")
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(tmp_path))
    where = tmp_path / "config.json"
    assert str(error.value) == f"{where}: vision_feature_select_strategy is 'full', wanted 'default'"
    write_hf(tmp_path, vision_config={"image_size": [28, 14]})
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(tmp_path))
    assert str(error.value) == f"{where}, vision_config: image_size is [28, 14], wanted a square"
