"""`tokenloom.compress` runs the graphs that everything else runs: methods, files, graphs in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tokenloom import Graph, compress, nodes
from tokenloom.runtime.errors import GraphError, LoomError
from tokenloom.runtime.layers import builtin_graphs
from tokenloom.runtime.values import Prompt, Tiles, Tokens

from ..stock import FAMILIES, IMAGE, NEW, batch, clips, inputs, pictures, row, stock


@pytest.fixture(scope="module")
def llava() -> Any:
    return stock("llava")


@pytest.fixture(scope="module")
def onevision() -> Any:
    return stock("llava_onevision")


# -- the same nodes as everywhere ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_the_ids_are_those_of_the_nodes_on_the_saved_checkpoint(tmp_path: Path, family: str) -> None:
    """VisionZip called node by node, on handles of the files that the model was saved to, gives the same."""
    model = stock(family)
    model.save_pretrained(tmp_path)
    vision, projector, llm, _ = nodes.load_model(checkpoint=str(tmp_path))
    given = inputs(family)
    first = {name: value[:1] for name, value in given.items()}
    with compress(model, "visionzip", keep=5, targets=2) as small:
        ids = small.generate(**first, max_new_tokens=NEW)
        tokens: Tokens = (small.last or [])[0]["tokens"]
    tiles = Tiles(
        first["pixel_values"].flatten(0, -4)[: len(tokens.source.tiles)],
        tokens.source.tiles,
        tokens.source.sizes,
        tokens.source.seconds,
    )
    patches = nodes.encode_vision(vision, tiles, layer=-2, features="cls_patch")
    kept, rest = nodes.select_dominant(patches, keep=5)
    visual = nodes.project_mlp(projector, nodes.merge_contextual(kept, rest, targets=2))
    if family == "llava_next":
        visual = nodes.pack_visionzip_next(visual, projector)
    mine = [i if i != IMAGE else -200 for i in first["input_ids"][0].tolist() if i]
    collapsed = [i for n, i in enumerate(mine) if i != -200 or mine[n - 1] != -200]
    placed = nodes.place_tokens(llm, Prompt.of_ids(collapsed), visual)
    answer = nodes.generate(llm, nodes.prefill(llm, placed), max_new_tokens=NEW).answer
    assert ids[0, first["input_ids"].shape[1] :].tolist() == list(answer.ids)


@pytest.mark.parametrize(
    ("family", "method", "params", "kept"),
    [
        ("llava", "visionzip", {"keep": 5, "targets": 2}, [7, 14]),
        ("llava", "fastv", {"k": 1, "r": 0.5}, [8, 16]),
        ("llava", "prumerge", {"ratio": 0.25, "neighbours": 2}, [5, 10]),
        ("llava", "mixes/pyramid_drop", {}, [2, 4]),
        ("llava", "lookm", {}, [16, 32]),
        ("llava_next", "visionzip", {"keep": 5, "targets": 2}, [21, 56]),
        ("llava_next", "fastv", {"k": 1}, [32, 66]),
        ("llava_onevision", "visionzip", {"keep": 4, "targets": 1}, [15, 60]),
        ("llava_onevision", "fastv", {"k": 1, "r": 0.75}, [29, 54]),
    ],
)
def test_every_method_keeps_its_budget(family: str, method: str, params: Any, kept: list[int]) -> None:
    """One and two pictures: the visual tokens that the last layer sees are as many as the method keeps."""
    with compress(stock(family), method, **params) as small:
        small.generate(**inputs(family), max_new_tokens=2)
        assert small.last is not None
        assert [one.answer.kept_visual_tokens for one in small.last if one.answer] == kept


def test_prunevid_runs_on_clips_of_onevision(onevision: Any) -> None:
    """Its stages are those of prunevid_onevision, and its parameters too."""
    with compress(onevision, "prunevid", selected_layer=0, alpha=0.5) as small:
        small.generate(**clips(), max_new_tokens=2)
        assert small.last is not None
        stages = {stage.id for stage in small.last[0].stages}
    assert {"segments", "still", "merged", "ended", "early", "pruned"} <= stages


@pytest.mark.filterwarnings("ignore::tokenloom.runtime.errors.BudgetNotice")  # the models are very small
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", sorted(builtin_graphs()))
def test_every_built_in_graph_runs_or_is_refused_at_once(family: str, name: str) -> None:
    """What compress takes answers; what does not suit the model is a LoomError before any work."""
    model = stock(family)
    try:
        small = compress(model, name)
    except LoomError:
        return
    came = {"image": inputs(family), "video": clips() if family == "llava_onevision" else {}}
    for media, form in small._forms.items():
        if isinstance(form, LoomError):
            with pytest.raises(GraphError, match=r"came, for which .* does not work"):
                small.generate(**came[media], max_new_tokens=1)
        else:
            assert len(small.generate(**came[media], max_new_tokens=1)) == 2


# -- sampling ------------------------------------------------------------------------------------------------


def test_samples_follow_the_seed(llava: Any) -> None:
    """Equal seeds, equal ids; without one, torch's own generator decides."""
    given = inputs("llava")

    def drawn(small: Any, **more: Any) -> list[int]:
        ids = small.generate(**given, max_new_tokens=NEW, do_sample=True, temperature=3.0, **more)
        return ids[:, -NEW:].flatten().tolist()

    with compress(llava, "visionzip", keep=4) as small:
        assert drawn(small, seed=1) == drawn(small, seed=1) != drawn(small, seed=2)
        torch.manual_seed(5)
        first = drawn(small)
        assert drawn(small) != first
        torch.manual_seed(5)
        assert drawn(small) == first


def test_equal_rows_are_sampled_apart(llava: Any) -> None:
    """The way to ask for several answers, as of the plain model; row 1 is what the next seed gives row 0."""
    one = {**batch(row(3, 16, 5)), "pixel_values": pictures(1)}
    two = {**batch(row(3, 16, 5), row(3, 16, 5)), "pixel_values": pictures(1).repeat(2, 1, 1, 1)}
    how: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": True, "temperature": 3.0, "eos_token_id": None}
    with compress(llava, "visionzip", keep=4) as small:
        first, second = small.generate(**two, **how, seed=1)
        assert not torch.equal(first, second)
        assert torch.equal(second, small.generate(**one, **how, seed=2)[0])


def test_sampling_among_the_likeliest_alone_is_greedy(llava: Any) -> None:
    """top_k and top_p are passed on."""
    given = inputs("llava")
    with compress(llava, "visionzip", keep=4) as small:
        greedy = small.generate(**given, max_new_tokens=NEW)
        cuts: list[dict[str, Any]] = [{"top_k": 1}, {"top_p": 1e-6}]
        for cut in cuts:
            ids = small.generate(**given, max_new_tokens=NEW, do_sample=True, seed=3, **cut)
            assert torch.equal(ids, greedy)


def test_a_generation_config_comes_before_the_models(llava: Any) -> None:
    """And arguments come before both, as the plain model has it."""
    from transformers import GenerationConfig

    given = inputs("llava")
    with compress(llava, "llava15") as full:
        config = GenerationConfig(max_new_tokens=3)
        assert torch.equal(
            full.generate(**given, generation_config=config), full.generate(**given, max_new_tokens=3)
        )
        longer = full.generate(**given, generation_config=config, max_new_tokens=5)
    assert longer.shape[1] == given["input_ids"].shape[1] + 5


# -- graphs of one's own -------------------------------------------------------------------------------------


def test_a_graph_file_is_put_on_the_models_base(tmp_path: Path) -> None:
    """A file that extends FastV, written for LLaVA-1.5, packs LLaVA-NeXT's tiles like that model."""
    file = tmp_path / "mine.yaml"
    file.write_text("tokenloom: 1\ntitle: Mine\nextends: fastv\nnodes:\n  pruned: {drop: 0.75}\n")
    with compress(stock("llava_next"), file, k=1) as small:
        small.generate(**inputs("llava_next"), max_new_tokens=2)
        assert small.last is not None
        stages = {stage.id: stage.tokens for stage in small.last[0].stages}
    assert stages["packed"] == "48 -> 56"
    assert stages["pruned"] == "65 -> 29"


def test_a_graph_built_in_python_is_taken_as_it_is(llava: Any) -> None:
    """Its own parameters, too; what loads files, prompts and tiles is cut off."""
    with Graph("Mine") as mine:
        model = nodes.load_model(checkpoint="tiny-random")
        frames = nodes.load_image(path=mine.param("image", Path))
        patches = nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames))
        visual = nodes.project_mlp(model.projector, patches)
        picked = nodes.select_dominant(visual, keep=mine.param("most", int, default=3), cls_token="drop")
        prompt = nodes.render_chat(model.chat, frames, question="What?")
        placed = nodes.place_tokens(model.llm, prompt, picked.kept)
        mine.output(answer=nodes.generate(model.llm, placed, model.chat).text, kept=picked.kept)
    before = mine.copy()
    with compress(llava, mine, most=2) as small:
        small.generate(**inputs("llava"), max_new_tokens=2)
        assert [len(one["kept"]) for one in small.last or ()] == [2, 4]
    assert mine == before


def test_settings_of_any_step_may_be_given(llava: Any) -> None:
    """By `step.setting`, as the command line's --set."""
    settings = {"merged.merge": "mean", "dominant.keep": 2}
    with compress(llava, "visionzip", keep=4, targets=10, settings=settings) as small:
        small.generate(**inputs("llava"), max_new_tokens=1)
        assert [len(one["tokens"]) for one in small.last or ()] == [12, 24]


def test_the_report_tells_tokens_per_stage(llava: Any) -> None:
    """Per row the stages, the visual tokens of the plain model, those placed and kept; and the outputs."""
    with compress(llava, "visionzip", keep=5, targets=2) as small:
        assert small.last is None
        small.generate(**inputs("llava"), max_new_tokens=2)
    report: Any = small.last
    first = report[0]
    assert [(stage.id, stage.tokens) for stage in first.stages] == [
        ("patches", "17"),
        ("dominant", "17 -> kept 5, rest 12"),
        ("merged", "17 -> 7"),
        ("visual", "7 -> 7"),
        ("placed", "7 -> 16"),
        ("state", "16 -> 16"),
    ]
    assert first.answer is not None
    assert (first.full, first.answer.visual_tokens, first.answer.kept_visual_tokens) == (16, 7, 7)
    tokens: Tokens = first["tokens"]
    assert tokens.coverage().shape == (1, 4, 4)
    lines = str(report).splitlines()
    assert lines[0].split() == ["row", "stage", "tokens", "FLOPs", "seconds"]
    assert "16 -> 7 placed, 7 kept" in lines[7]
    assert len(lines) == 1 + 7 + 7 + 1


def test_it_says_what_it_is(llava: Any) -> None:
    """Model, method and parameters."""
    small = compress(llava, "visionzip", keep=4)
    assert repr(small) == "<LlavaForConditionalGeneration: VisionZip on LLaVA-1.5, keep=4>"
    small.close()
    assert repr(small) == "<closed: VisionZip on LLaVA-1.5, keep=4>"
