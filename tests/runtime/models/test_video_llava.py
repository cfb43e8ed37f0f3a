"""Video-LLaVA: the stages of the graph give the native model's logits, of a clip and of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
import transformers

from tests.checkpoints import (
    PREPROCESSOR,
    TEXT,
    TOWER,
    Names,
    hf_names,
    save,
    shaken,
    write_json,
    write_word_tokenizer,
)
from tests.checkpoints import write_llava15_original as write_llava15
from tokenloom import run
from tokenloom.nodes import (
    encode_vision,
    load_model,
    place_tokens,
    prefill,
    preprocess,
    project_mlp,
    read_logits,
)
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.values import Frames, Kind, Prompt, Slot, Tokens

LEFT, RIGHT, IMAGE, VIDEO = (1, 5), (9, 20, 7), 62, 63
CLIP = Path(__file__).parents[3] / "examples" / "media" / "shapes.mp4"


def write_video_llava(folder: Path, names: Names = "4.x") -> Any:
    """llava-hf's layout; returns the native model."""
    torch.manual_seed(6)
    vision = transformers.CLIPVisionConfig(**TOWER)
    text = transformers.LlamaConfig(**TEXT)
    ids: dict[str, Any] = {"image_token_index": IMAGE, "video_token_index": VIDEO}
    config = transformers.VideoLlavaConfig(vision_config=vision, text_config=text, **ids)
    model: Any = shaken(transformers.VideoLlavaForConditionalGeneration(config))
    tensors = hf_names(dict(model.state_dict()), names)
    if names == "4.x":  # hub files nest both towers
        tensors = {n.replace("o_tower.", "o_tower.vision_model.", 1): t for n, t in tensors.items()}
        tensors = {n.replace("e_tower.", "e_tower.vision_model.", 1): t for n, t in tensors.items()}
    save(
        folder,
        {name.replace("vision_model.vision_model.", "vision_model."): t for name, t in tensors.items()},
    )
    write_json(folder / "config.json", {
        "architectures": ["VideoLlavaForConditionalGeneration"], "model_type": "video_llava", **ids,
        "text_config": {"model_type": "llama", **TEXT}, "projector_hidden_act": "gelu",
        "vision_config": {"model_type": "clip_vision_model", **TOWER},
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
    })  # fmt: skip
    crop = {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 32}}
    write_json(folder / "preprocessor_config.json", {**PREPROCESSOR, **crop})
    return model


def frames_of(count: int, *, clip: bool) -> Frames:
    torch.manual_seed(3)
    pixels = torch.randint(0, 256, (count, 40, 50, 3), dtype=torch.uint8)
    return Frames(tuple(pixels), torch.arange(count) / 2, clip=clip)


@pytest.mark.parametrize("names", ["4.x", "5.x"])
@pytest.mark.parametrize("media", ["video", "image"])
def test_as_the_native_model(tmp_path: Path, media: Literal["video", "image"], names: Names) -> None:
    """Frames go through the video tower and keep [CLS]; a picture goes through the other and loses it."""
    native = write_video_llava(tmp_path, names)
    loaded = load_model(checkpoint=str(tmp_path), tower="auto" if media == "video" else "image")
    clip = media == "video"
    tiles = preprocess(loaded.chat, frames_of(3 if clip else 1, clip=clip))
    visual = project_mlp(loaded.projector, encode_vision(loaded.vision, tiles))
    assert len(visual) == (3 * 17 if clip else 16)
    assert visual.kind.tolist().count(Kind.CLS) == 3 * clip
    placed = place_tokens(loaded.llm, Prompt(pieces=(LEFT, Slot(media), RIGHT)), visual)
    got = read_logits(loaded.llm, prefill(loaded.llm, placed), rows="all").values
    ids = torch.tensor([[*LEFT, *[VIDEO if clip else IMAGE] * len(visual), *RIGHT]])
    with torch.no_grad():  # pixels by position: their name changes between versions
        model = native.model
        parts = (
            model.get_video_features(tiles.pixels[None]) if clip else model.get_image_features(tiles.pixels)
        )
        embeds = native.get_input_embeddings()(ids)
        embeds[0, len(LEFT) : -len(RIGHT)] = parts.pooler_output.flatten(0, 1)
        want = native(inputs_embeds=embeds).logits[0]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_both_towers_share_the_rest(tmp_path: Path) -> None:
    """One language model and one projector, two towers; squares are cut from the centre."""
    write_video_llava(tmp_path)
    clip, picture = (load_model(checkpoint=str(tmp_path), tower=t) for t in ("video", "image"))
    assert clip.vision.fingerprint != picture.vision.fingerprint
    assert clip.vision.load() is not picture.vision.load()
    assert (clip.llm, clip.projector, clip.chat) == (picture.llm, picture.projector, picture.chat)
    facts = clip.chat.facts
    assert facts.chat is not None
    assert facts.image is not None
    assert (facts.chat.template, facts.chat.image_token, facts.image.aspect) == ("llava_v1", IMAGE, "square")


def test_the_graph_takes_a_clip(tmp_path: Path) -> None:
    """17 tokens of each frame, [CLS] first."""
    write_video_llava(tmp_path)
    write_word_tokenizer(tmp_path, ["What", "happens", "in", "the", "video"])
    result = run(
        "video_llava", checkpoint=str(tmp_path), video=CLIP, count=2, question="What happens?",
        max_new_tokens=2, cache=False,
    )  # fmt: skip
    tokens = cast("Tokens", result["tokens"])
    assert tokens.kind.tolist() == 2 * ([Kind.CLS] + [Kind.PATCH] * 16)


def test_one_tower_is_not_chosen(tmp_path: Path) -> None:
    """`tower` of any other checkpoint is a mistake."""
    write_llava15(tmp_path)
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(tmp_path), tower="image")
    assert str(error.value) == (
        f"load_model.tower: image, but {tmp_path} has one tower for pictures and clips; leave it out"
    )


def test_a_second_tower_elsewhere_is_unknown(tmp_path: Path) -> None:
    """Tensors of an image tower in a LLaVA are named, not dropped."""
    write_llava15(tmp_path, more={"image_tower.embeddings.class_embedding": torch.zeros(32)})
    with pytest.raises(CheckpointError, match=r"of no known part: image_tower\.embeddings\.class_embedding"):
        load_model(checkpoint=str(tmp_path))
