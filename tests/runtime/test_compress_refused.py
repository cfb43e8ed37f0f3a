"""`tokenloom.compress` refuses what it cannot do: models, graphs, parameters, inputs, ways to decode."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tokenloom import Graph, compress, node, nodes
from tokenloom.runtime.errors import (
    BudgetError,
    CheckpointError,
    GraphError,
    LoomError,
    MediaError,
    ModelError,
    NeedError,
    PromptError,
    WiringError,
)
from tokenloom.runtime.values import Frames, VisualTokens

from ..checkpoints import TEXT, TOWER
from ..stock import SIDE, VIDEO, batch, pictures, row, stock, tiled

WANTED = (
    "wanted one of transformers' LlavaForConditionalGeneration, LlavaNextForConditionalGeneration, "
    "LlavaOnevisionForConditionalGeneration"
)
DECODING = (
    "supported: max_new_tokens, max_length, min_new_tokens, min_length, do_sample, temperature, top_p, "
    "top_k, seed, eos_token_id, pad_token_id, generation_config"
)
ONE_CALL = "give the ids and the pixels that one call of the model's own processor returned"


@pytest.fixture(scope="module")
def llava() -> Any:
    return stock("llava")


@pytest.fixture(scope="module")
def small(llava: Any) -> Any:
    return compress(llava, "visionzip", keep=4, targets=2)


@node
def looked_at(tokens: VisualTokens, frames: Frames) -> VisualTokens:
    """Stands for whatever looks at pixels."""
    return tokens


def given() -> dict[str, Any]:
    """Two rows of one picture."""
    return {**batch(row(3, 16, 5), row(1, 16, 2)), "pixel_values": pictures(2)}


def refused(kind: type[LoomError], call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(kind) as error:
        call(*args, **kwargs)
    assert type(error.value) is kind
    return str(error.value)


# -- models --------------------------------------------------------------------------------------------------


def test_a_model_of_another_class_is_refused(llava: Any) -> None:
    """What came, what is taken, and what to do."""
    load = "load it with that class's from_pretrained"
    assert refused(ModelError, compress, llava.model) == f"compress.model: LlavaModel; {WANTED}; {load}"
    assert refused(ModelError, compress, "llava-hf/llava-1.5-7b-hf") == (
        f"compress.model: 'llava-hf/llava-1.5-7b-hf'; {WANTED}; {load}, or use tokenloom.run(graph, "
        "checkpoint=...)"
    )


def test_a_model_inside_another_object_is_asked_for(llava: Any) -> None:
    """peft's wrappers have a base model, in which the adapter's layers are; torch.compile's the original."""

    class PeftModel(torch.nn.Module):
        def get_base_model(self) -> Any:
            return llava

    class OptimizedModule(torch.nn.Module):
        _orig_mod = llava

    assert refused(ModelError, compress, PeftModel()) == (
        f"compress.model: PeftModel; {WANTED}; give model.get_base_model(), which has the adapter's layers in"
        " it"
    )
    assert refused(ModelError, compress, OptimizedModule()) == (
        f"compress.model: OptimizedModule; {WANTED}; give the model that was compiled"
    )


def test_a_model_without_weights_is_refused(llava: Any) -> None:
    """One that was made on the meta device."""
    with torch.device("meta"):
        empty = type(llava)(llava.config)
    assert refused(ModelError, compress, empty) == (
        "compress.model: it has no weights (device meta); load it with from_pretrained"
    )


def test_a_model_on_two_devices_is_refused(llava: Any) -> None:
    """Half of it elsewhere."""
    model = copy.deepcopy(llava)
    model.lm_head.to("meta")
    assert refused(ModelError, compress, model) == (
        "compress.model: it lies on cpu and meta; wanted one device: load it with device_map={'': 0}, or "
        "move it with model.to(...)"
    )


def test_a_quantised_model_is_refused(llava: Any) -> None:
    """As transformers marks it."""
    model = copy.copy(llava)
    model.is_quantized = True
    assert refused(ModelError, compress, model) == (
        "compress.model: it is quantised, whose layers hold no plain numbers; load it in bfloat16 or float16"
    )


def test_replaced_forwards_with_another_attention_are_refused(llava: Any) -> None:
    """They would go on with the old attention; SDPA needs no new modules, and takes them."""
    model = copy.deepcopy(llava)
    layer = model.model.language_model.layers[0]
    layer.forward = layer.forward
    compress(model, "llava15")
    model.set_attn_implementation("eager")
    assert refused(ModelError, compress, model) == (
        "compress.model: its attention is 'eager', and the forward of layers.0 was replaced (by accelerate's "
        "hooks, or kernels); load it with attn_implementation='sdpa'"
    )


def test_families_that_are_not_known_are_refused() -> None:
    """A tower, a language model, features of several layers."""
    import transformers

    clip, llama = transformers.CLIPVisionConfig(**TOWER), transformers.LlamaConfig(**TEXT)
    pixtral = transformers.PixtralVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4, image_size=32,
        patch_size=8,
    )  # fmt: skip
    gemma = transformers.GemmaConfig(**{**TEXT, "head_dim": 8})

    def made(tower: Any, text: Any, **more: Any) -> Any:
        with torch.device("cpu"):
            config = transformers.LlavaConfig(vision_config=tower, text_config=text, **more)
            return transformers.LlavaForConditionalGeneration(config)

    where = "LlavaForConditionalGeneration/config.json"
    assert refused(CheckpointError, compress, made(pixtral, llama)) == (
        f"{where}, vision_config: vision tower 'pixtral' is not known; known: CLIP, SigLIP, InternViT"
    )
    assert refused(CheckpointError, compress, made(clip, gemma)) == (
        f"{where}, text_config: language model gemma is not known; known: llama, mistral, qwen2, internlm2"
    )
    assert refused(CheckpointError, compress, made(clip, llama, vision_feature_layer=[-2, -1])) == (
        f"{where}: features of layers [-2, -1] together; only one layer is supported"
    )


# -- graphs and their parameters -----------------------------------------------------------------------------


def test_an_unknown_graph_is_refused(llava: Any) -> None:
    """With the one that was meant."""
    assert refused(GraphError, compress, llava, "visionzipp") == (
        "visionzipp: no such graph file, and no built-in graph is called that; did you mean 'visionzip'?"
    )
    assert refused(GraphError, compress, llava, 64) == (
        "compress.graph: int; wanted the name of a graph, a file, or a Graph"
    )


def test_unknown_parameters_are_refused(llava: Any) -> None:
    """With the one that was meant; and those of steps that are not there, with what stands in their place."""
    assert refused(GraphError, compress, llava, "visionzip", kep=3) == (
        "compress.kep: the graph has no such parameter; did you mean 'keep'?"
    )
    assert refused(GraphError, compress, llava, "llava15", keep=3) == (
        "compress.keep: this graph has no parameters"
    )
    assert refused(GraphError, compress, llava, "visionzip", question="Why?") == (
        "compress.question: it belongs to the files, the prompt or the tiles, which come from the model and "
        "its processor; leave it out"
    )
    assert refused(GraphError, compress, llava, "visionzip", max_new_tokens=3) == (
        "compress.max_new_tokens: it says how the answer is decoded; give it to generate()"
    )


def test_values_of_another_type_are_refused(llava: Any) -> None:
    """At once, not in generate."""
    assert refused(WiringError, compress, llava, "visionzip", keep="many") == (
        "params.keep: 'many' is a str, wanted int 1.. or null"
    )


def test_unknown_settings_are_refused(llava: Any) -> None:
    """The step, or the setting, that was meant."""

    def message(kind: type[LoomError], name: str) -> str:
        return refused(kind, compress, llava, "visionzip", settings={name: 3})

    assert message(GraphError, "dominent.keep") == (
        "compress.settings: 'dominent.keep' names no step of the graph; wanted step.setting; did you mean "
        "'dominant'?"
    )
    assert message(WiringError, "dominant.kep") == "dominant has no setting 'kep'; did you mean 'keep'?"


def test_what_cannot_work_with_the_model_is_refused_at_once(llava: Any) -> None:
    """Budgets, layers, side channels and checkpoints of other kinds, before any picture is there."""
    assert refused(BudgetError, compress, llava, "visionzip", keep=18) == (
        "select_dominant: keep 18 of 17 tokens per tile; set keep to 17 or less"
    )
    assert refused(GraphError, compress, llava, "fastv", k=9) == (
        "prefill.until: 9 of a model with 4 layers; wanted 0..4"
    )
    assert refused(NeedError, compress, stock("llava_onevision"), "prumerge") == (
        "encode_vision: SigLIP has no [CLS] token; use a CLIP tower"
    )
    assert refused(GraphError, compress, llava, "prunevid") == (
        "compress.graph: 'PruneVid on PLLaVA' is for clips; for pictures take another graph"
    )


def test_a_graph_without_an_answer_is_refused(llava: Any) -> None:
    """Nothing to generate."""
    with Graph("Tokens alone") as graph:
        model = nodes.load_model(checkpoint="tiny-random")
        frames = nodes.load_image(path=graph.param("image", Path))
        graph.output(tokens=nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames)))
    assert refused(GraphError, compress, llava, graph) == (
        "compress.graph: it gives no answer; wanted a graph with a generate step"
    )


def looking(outputs: bool) -> Graph:
    """A graph with a node that looks at the pictures, on the way to the answer or beside it."""
    with Graph("Looks at the pictures") as graph:
        model = nodes.load_model(checkpoint="tiny-random")
        frames = nodes.load_image(path=graph.param("image", Path))
        visual = nodes.project_mlp(
            model.projector, nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames))
        )
        looked = looked_at(visual, frames)
        prompt = nodes.render_chat(model.chat, frames, question="What?")
        placed = nodes.place_tokens(model.llm, prompt, visual if outputs else looked)
        graph.output(answer=nodes.generate(model.llm, placed, model.chat).text, looked=looked, visual=visual)
    return graph


def test_a_graph_that_needs_files_on_its_way_is_refused(llava: Any) -> None:
    """Only tiles and ids are there."""
    assert refused(GraphError, compress, llava, looking(outputs=False)) == (
        "compress.graph: looked_at.frames takes $load_image, but behind a model in memory there are no "
        "files, only tiles and token ids; take the wire off, or run the graph with a checkpoint"
    )


def test_an_output_that_needs_files_is_left_out(llava: Any) -> None:
    """The answer does not need it; other outputs are there."""
    with compress(llava, looking(outputs=True)) as small:
        small.generate(**given(), max_new_tokens=1)
        assert small.last is not None
        assert list(small.last[0].outputs) == ["visual"]


# -- inputs --------------------------------------------------------------------------------------------------


def test_ids_that_are_none_are_refused(small: Any) -> None:
    """Missing, of one row without a batch, given twice."""
    wanted = "wanted [B, S] long, as the processor returns them with return_tensors='pt'"
    pixels, ids = given()["pixel_values"], given()["input_ids"]
    assert refused(PromptError, small.generate, pixel_values=pixels) == (
        f"generate.input_ids: none came; {wanted}"
    )
    assert refused(PromptError, small.generate, ids[0]) == (f"generate.input_ids: [25] int64 came; {wanted}")
    assert refused(PromptError, small.generate, ids, input_ids=ids) == (
        "generate: inputs and input_ids are both given; wanted one of them"
    )


def test_masks_that_do_not_fit_are_refused(small: Any) -> None:
    """Of another shape, or with a row of padding alone."""
    mask = given()["attention_mask"]
    assert refused(PromptError, small.generate, **{**given(), "attention_mask": mask[:, 1:]}) == (
        "generate.attention_mask: [2, 24] int64 came; wanted [2, 25]"
    )
    mask[1] = 0
    assert refused(PromptError, small.generate, **{**given(), "attention_mask": mask}) == (
        "generate.attention_mask: row 1 is padding alone; leave it out of the batch"
    )


def test_ids_and_pixels_that_do_not_match_are_refused(small: Any) -> None:
    """Too few pictures, too many, none at all, or placeholders of another number."""
    ids = batch(row(3, 16, 5), row(1, 16, 2))
    assert refused(PromptError, small.generate, **ids, pixel_values=pictures(1)) == (
        f"generate: row 1 has a run of 16 image ids, but no pixels are left; {ONE_CALL}"
    )
    assert refused(PromptError, small.generate, **ids) == (
        f"generate: row 0 has a run of 16 image ids, but no pixels are left; {ONE_CALL}"
    )
    assert refused(PromptError, small.generate, **ids, pixel_values=pictures(3)) == (
        "generate: 3 pictures came, but input_ids have places for 2; give the ids and the pixels that one "
        "call of the processor returned"
    )
    assert refused(PromptError, small.generate, **batch(row(3, 20, 5)), pixel_values=pictures(2)) == (
        f"generate: row 0 has a run of 20 image ids, but the next pictures came to 16 + 16; {ONE_CALL}"
    )


def test_pixels_of_another_shape_are_refused(small: Any) -> None:
    """Another size than the tower's, another number of axes, no tensor, no clip for a model of pictures."""
    wanted = (
        "wanted [P, 3, h, w] float, tiles of 32x32, as the model's processor returns them with "
        "return_tensors='pt'"
    )
    for pixels, came in (
        (pictures(2, 16), "[2, 3, 16, 16] float32"),
        (pictures(2)[None], "[1, 2, 3, 32, 32] float32"),
        ([pictures(2)], "list"),
    ):
        assert refused(MediaError, small.generate, **{**given(), "pixel_values": pixels}) == (
            f"generate.pixel_values: {came} came; {wanted}"
        )
    assert refused(MediaError, small.generate, **given(), pixel_values_videos=pictures(2)[None]) == (
        "generate.pixel_values_videos: a LlavaForConditionalGeneration takes input_ids, attention_mask, "
        "pixel_values; give what the model's own processor returns"
    )


def test_sizes_that_do_not_fit_the_tiles_are_refused() -> None:
    """LLaVA-NeXT's image_sizes say how the pictures were cut up."""
    many = compress(stock("llava_next"), "visionzip", keep=4)
    ids = batch(row(3, 56, 5), row(1, 88, 2))
    pixels, sizes = tiled(3, 5, side=32), torch.tensor([[50, 20], [40, 41]])

    def message(pixels: Any, sizes: Any) -> str:
        return refused(MediaError, many.generate, **ids, pixel_values=pixels, image_sizes=sizes)

    rows = "height and width of every picture, as the processor returns them"
    assert message(pixels, None) == f"generate.image_sizes: none came; wanted [2, 2], {rows}"
    assert message(pixels, sizes[:1]) == f"generate.image_sizes: [1, 2] int64 came; wanted [2, 2], {rows}"
    assert message(pixels[:, :3], sizes) == (
        "generate.pixel_values: 3 tiles of a picture at most, but these image_sizes with the model's "
        "image_grid_pinpoints make 5; use the model's own processor"
    )
    assert message(pixels[:, 0], sizes) == (
        "generate.pixel_values: 2 tiles, but pictures of these image_sizes have 8; give what one call of the "
        "processor returned"
    )


def test_pictures_for_a_graph_of_clips_are_refused() -> None:
    """OneVision takes both, PruneVid clips alone."""
    onevision = compress(stock("llava_onevision"), "prunevid", selected_layer=0)
    ids = batch(row(3, 85, 4))
    with pytest.raises(GraphError) as error:
        onevision.generate(
            **ids, pixel_values=tiled(3, side=SIDE), image_sizes=torch.tensor([[60, 30]]), max_new_tokens=1
        )
    assert str(error.value) == (
        "generate: pictures came, for which <LlavaOnevisionForConditionalGeneration: PruneVid on "
        "LLaVA-OneVision, selected_layer=0> does not work: compress.graph: 'PruneVid on PLLaVA' is for "
        "clips; for pictures take another graph"
    )
    assert error.value.__notes__ == ["in row 0 of the batch"]
    clip = batch(row(3, 9 * 2 + 1, 4, VIDEO))
    clip["pixel_values_videos"] = pictures(2, SIDE)[None]
    assert onevision.generate(**clip, max_new_tokens=1).shape == (1, 28)


def test_a_prompt_beyond_the_models_positions_is_refused(llava: Any) -> None:
    """Which of the rows it is, is said."""
    long = batch(row(3, 16, 5), row(300, 16, 300))
    with pytest.raises(BudgetError) as error:
        compress(llava, "llava15").generate(**long, pixel_values=pictures(2))
    assert str(error.value).startswith(
        "place_tokens: the prompt has 617 rows (16 visual tokens, 601 of text), the limit is 512; "
    )
    assert error.value.__notes__[-1] == "in row 1 of the batch"


# -- decoding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_beams": 4}, f"generate: num_beams=4 is not supported with compressed tokens; {DECODING}"),
        (
            {"repetition_penalty": 1.2},
            f"generate: repetition_penalty=1.2 is not supported with compressed tokens; {DECODING}",
        ),
        (
            {"return_dict_in_generate": True},
            f"generate: return_dict_in_generate=True is not supported with compressed tokens; {DECODING}",
        ),
        (
            {"do_sample": True, "min_p": 0.1},
            f"generate: min_p=0.1 is not supported with compressed tokens; {DECODING}",
        ),
        (
            {"assistant_model": 1},
            f"generate: assistant_model is not supported with compressed tokens; {DECODING}",
        ),
        ({"streamer": 1}, f"generate: streamer is not supported with compressed tokens; {DECODING}"),
        ({"max_tokens": 3}, "generate: no argument is called 'max_tokens'; did you mean 'max_new_tokens'?"),
        ({"pixel_value": 3}, "generate: no argument is called 'pixel_value'; did you mean 'pixel_values'?"),
        (
            {"max_length": 25},
            "generate.max_length: 25, but the prompt has 25 ids already; give max_new_tokens",
        ),
        (
            {"do_sample": True, "temperature": 0.0},
            "generate.temperature: 0.0; wanted more than 0, or do_sample=False",
        ),
        ({"max_new_tokens": "5"}, "generate.max_new_tokens: '5' is a str, wanted int"),
        ({"max_new_tokens": 2.5}, "generate.max_new_tokens: 2.5 is a float, wanted int"),
        ({"min_new_tokens": True}, "generate.min_new_tokens: True is a bool, wanted int"),
        ({"eos_token_id": "x"}, "generate.eos_token_id: 'x' is a str, wanted int"),
        ({"pad_token_id": [1, 2.0]}, "generate.pad_token_id: 2.0 is a float, wanted int"),
        ({"temperature": "hot"}, "generate.temperature: 'hot' is a str, wanted a finite number"),
        ({"top_p": float("nan")}, "generate.top_p: nan is a float, wanted a finite number"),
        ({"do_sample": True, "seed": "7"}, "generate.seed: '7' is a str, wanted int"),
    ],
    ids=lambda one: next(reversed(one)) if isinstance(one, dict) else "",
)  # fmt: skip
def test_ways_to_decode_that_are_not_there_are_refused(small: Any, more: Any, message: str) -> None:
    """By name, with those that are there."""
    assert refused(GraphError, small.generate, **given(), **more) == message


def test_what_changes_nothing_is_taken(small: Any) -> None:
    """Arguments that ask for what is so anyway, as much code gives them."""
    ids = small.generate(
        **given(), max_new_tokens=2, num_beams=1, use_cache=True, do_sample=False, temperature=None,
        top_p=None, repetition_penalty=1.0, output_scores=False, streamer=None, logits_processor=[],
        synced_gpus=False,
    )  # fmt: skip
    assert torch.equal(ids, small.generate(**given(), max_new_tokens=2))


def test_a_way_to_decode_that_the_model_brings_is_refused_too(llava: Any) -> None:
    """Its generation_config asks for something; an argument takes it back."""
    model = copy.deepcopy(llava)
    model.generation_config.repetition_penalty = 1.1
    with compress(model, "visionzip", keep=4) as one:
        assert refused(GraphError, one.generate, **given()) == (
            "generate: repetition_penalty=1.1 of the generation_config is not supported with compressed "
            f"tokens; {DECODING}"
        )
        assert len(one.generate(**given(), repetition_penalty=1.0, max_new_tokens=1)) == 2
