"""assemble_hd: crops and separators in reading order, any number of tokens per crop, and bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.nodes.assemble import Assembled, assemble_hd
from tokenloom.nodes.manual import select_manual
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill
from tokenloom.runtime.errors import CheckpointError, WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.values import Kind, Prompt, Source, Tile, VisualTokens
from tokenloom.runtime.values.prompt import IMAGE_TOKEN_INDEX

from ..hd import byte_tokenizer, hd_tiles, spelt_language, spelt_tokenizer
from ..runtime.models.tiny import Held, chat_handle

WIDTH, VOCAB, COMMA = 8, 60, 11
EMBEDDINGS = torch.randn(VOCAB, WIDTH, generator=torch.Generator().manual_seed(7))
LLM = spelt_language(EMBEDDINGS)
NAMES = {0: "n", COMMA: ",", 5: "r"}


@pytest.fixture(scope="module")
def chat() -> Held:
    """A LLaMA's: a comma, and no newline."""
    return chat_handle(spelt_tokenizer({",": COMMA}, VOCAB))


def crops(*grids: tuple[int, int], patches: int = 2) -> VisualTokens:
    """All tokens of pictures on these grids, numbered in their first feature."""
    source = Source(hd_tiles(*grids), 1, patches, sizes=((9, 9),) * len(grids))
    features = torch.ones(len(source), WIDTH)
    features[:, 0] = torch.arange(len(source))
    return VisualTokens.of_patches(source, features)


def shown(made: Assembled | VisualTokens) -> list[Any]:
    """Numbers of tokens; "n" <unk> for a newline, "," a comma, "r" token 5."""
    tokens = made if isinstance(made, VisualTokens) else made.tokens
    out: list[Any] = []
    for feature, kind in zip(tokens.features, tokens.kind, strict=True):
        found = (feature == EMBEDDINGS).all(1).nonzero().flatten().tolist()
        assert bool(found) == (int(kind) == int(Kind.SEPARATOR))
        out.append(NAMES[found[0]] if found else int(feature[0]))
    return out


def test_rows_of_crops_then_the_global_view(chat: Held) -> None:
    """A comma between the crops of a row, a newline after each row and after the global view."""
    made = assemble_hd(LLM, crops((2, 3), patches=1), chat)
    assert shown(made) == [0, ",", 1, ",", 2, "n", 3, ",", 4, ",", 5, "n", 6, "n"]


def test_one_crop_ends_with_a_newline(chat: Held) -> None:
    """There is no global view of it."""
    assert shown(assemble_hd(LLM, crops((1, 1)), chat)) == [0, 1, "n"]


def test_pictures_of_unequal_grids(chat: Held) -> None:
    """Each picture by itself, in order, in its own slot."""
    made = assemble_hd(LLM, crops((1, 2), (1, 1), (2, 1), patches=1), chat)
    assert shown(made) == [0, ",", 1, "n", 2, "n", 3, "n", 4, "n", 5, "n", 6, "n"]
    ids = [1, IMAGE_TOKEN_INDEX, 9, IMAGE_TOKEN_INDEX, IMAGE_TOKEN_INDEX, 8]
    placed = place_tokens(LLM, Prompt.of_ids(ids), made.tokens)
    assert placed.token.tolist() == [-1, 0, 1, 2, 3, 4, 5, -1, 6, 7, 8, 9, 10, 11, 12, 13, -1]
    assert placed.embeds[2].equal(EMBEDDINGS[COMMA])


def test_a_batch_of_unequal_grids(chat: Held) -> None:
    """Prompts of different lengths side by side: each ends in the same hidden state as alone."""
    grids = [(2, 3), (1, 1), (3, 1)]
    made = [assemble_hd(LLM, crops(grid), chat).tokens for grid in grids]
    placed = [place_tokens(LLM, Prompt.of_ids([1, IMAGE_TOKEN_INDEX, 8]), tokens) for tokens in made]
    together = prefill.many([(LLM, inputs) for inputs in placed])
    for inputs, state in zip(placed, together, strict=True):
        torch.testing.assert_close(state.hidden, prefill(LLM, inputs).hidden)


def test_separators_stand_for_no_patch_and_end_a_crop(chat: Held) -> None:
    """Kind, home and members; side channels hold nothing there."""
    given_tokens = crops((2, 2)).with_side(score=torch.ones(10, 3))
    tokens = assemble_hd(LLM, given_tokens, chat).tokens
    special = tokens.kind == int(Kind.SEPARATOR)
    assert tokens.home[special].tolist() == [0, 1, 2, 3, 4]
    assert tokens.home.equal(tokens.home.sort().values)
    assert tokens.count[special].eq(0).all()
    assert tokens.side["score"][special].eq(0).all()
    assert tokens.side["score"][~special].eq(1).all()
    assert tokens.coverage().equal(given_tokens.coverage())


def test_what_the_separators_became_is_recorded(chat: Held) -> None:
    """What was asked for, the id, how the vocabulary spells it, and how many there are."""
    table = assemble_hd(LLM, crops((2, 3), (1, 1)), chat).separators
    assert table.title == "separators"
    assert table.columns == ("separator", "asked", "id", "token", "count")
    assert table.rows == (("column", "','", COMMA, ",", 4), ("row", r"'\n'", 0, "<unk>", 4))
    bare = assemble_hd(LLM, crops((2, 3)), column=None, row=5).separators
    assert bare.rows == (("column", None, None, None, 0), ("row", 5, 5, None, 3))


def test_any_number_of_tokens_per_crop(chat: Held) -> None:
    """After a selection; a crop that lost all of its tokens still ends."""
    picked = select_manual(crops((1, 3)), indices=(0, 1, 4, 7)).kept
    assert shown(assemble_hd(LLM, picked, chat)) == [0, 1, ",", ",", 4, "n", 7, "n"]
    nothing = picked.select(torch.arange(0))
    assert shown(assemble_hd(LLM, nothing, chat)) == [",", ",", "n", "n"]


def test_tokens_are_sorted_by_crop_and_keep_their_order_there(chat: Held) -> None:
    """However they come; a merged token lies where its first one was."""
    mixed = crops((1, 2)).select(torch.tensor([5, 3, 1, 0, 2, 4]))
    assert shown(assemble_hd(LLM, mixed, chat)) == [1, 0, ",", 3, 2, "n", 5, 4, "n"]
    joined = crops((1, 2)).merge(torch.tensor([0, 1, 2, 0, 3, 3]))
    assert assemble_hd(LLM, joined, chat).tokens.home.tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_a_base_tile_that_comes_first_is_read_last(chat: Held) -> None:
    """Tiles in the order of tile_anyres: the grid, and then the whole picture."""
    whole, *grid = (
        Tile(frame=0, box=(0, 0, 2, 1), whole=True),
        Tile(frame=0, box=(0, 0, 1, 1)),
        Tile(frame=0, col=1, box=(1, 0, 2, 1)),
    )
    source = Source((whole, *grid), 1, 1)
    features = crops((1, 2), patches=1).features
    made = assemble_hd(LLM, VisualTokens.of_patches(source, features), chat)
    assert shown(made) == [1, ",", 2, "n", 0, "n"]


def test_separators_by_id_need_no_tokenizer() -> None:
    """Ids are taken as they are; null leaves a separator out."""
    assert shown(assemble_hd(LLM, crops((1, 2), patches=1), column=COMMA, row=5)) == [0, ",", 1, "r", 2, "r"]
    assert shown(assemble_hd(LLM, crops((1, 2), patches=1), column=None, row=5)) == [0, 1, "r", 2, "r"]
    without = assemble_hd(LLM, crops((1, 2)), column=None, row=None).tokens
    assert without.features.equal(crops((1, 2)).features)


def test_a_newline_that_the_vocabulary_spells_is_taken() -> None:
    """Only a vocabulary without one gives <unk>; `<unk>` itself may be asked for by name."""
    chat = chat_handle(spelt_tokenizer({",": COMMA, "\n": 5}, VOCAB))
    assert shown(assemble_hd(LLM, crops((1, 1), patches=1), chat)) == [0, "r"]
    assert shown(assemble_hd(LLM, crops((1, 1), patches=1), chat, row="<unk>")) == [0, "n"]


def test_a_newline_under_another_name_is_found() -> None:
    """Vocabularies of bytes spell it otherwise and have no <unk>: the one token that it is written as."""
    embeddings = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(8))
    made = assemble_hd(spelt_language(embeddings), crops((1, 2)), chat_handle(byte_tokenizer()))
    assert made.separators.rows == (("column", "','", 11, ",", 1), ("row", r"'\n'", 198, "Ċ", 2))
    assert made.tokens.features[-1].equal(embeddings[198])


def test_vectors_keep_their_number_format(chat: Held) -> None:
    """Separators come in the format of the tokens."""
    tokens = crops((1, 2))
    half = tokens.with_features(tokens.features.half())
    assert assemble_hd(LLM, half, chat).tokens.features.dtype == torch.float16


@settings(deadline=None, max_examples=30)
@given(
    grids=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3),
    data=st.data(),
)
def test_nothing_is_lost(grids: list[tuple[int, int]], data: st.DataObject) -> None:
    """As long as tokens and tiles together; the tokens come crop by crop as a plain sort has them."""
    tokens = crops(*grids)
    index = data.draw(st.lists(st.integers(0, len(tokens) - 1), max_size=12))
    picked = tokens.select(torch.tensor(index, dtype=torch.long))
    made = assemble_hd(LLM, picked, column=COMMA, row=0).tokens
    assert len(made) == len(picked) + len(picked.source.tiles)
    plain = made.select(made.kind != int(Kind.SEPARATOR))
    assert plain.features.equal(picked.select(picked.home.argsort(stable=True)).features)
    commas = sum(rows * (cols - 1) for rows, cols in grids)
    assert int((made.features == EMBEDDINGS[COMMA]).all(1).sum()) == commas


def foreseen(llm: Held | None, tokens: KnownTokens | None, column: Any = ",", row: Any = "\n") -> Any:
    assert assemble_hd.foresee is not None
    return assemble_hd.foresee(llm, tokens, None, column=column, row=row)


def test_a_plan_counts_the_separators() -> None:
    """One for every crop; unknown where only one of the two stands there, or the tokens are not known."""
    known = KnownTokens(tiles=7, per_tile=144, width=WIDTH)
    assert foreseen(LLM, known).tokens == replace(known, per_tile=145, grid=False)
    assert foreseen(LLM, known, None, None).tokens == replace(known, grid=False)
    assert foreseen(LLM, known, None).tokens.per_tile is None
    assert foreseen(LLM, KnownTokens(tiles=7)).tokens.total is None
    assert foreseen(None, known).tokens.total == 1015
    assert foreseen(LLM, None) is None


def test_missing_separators_are_named() -> None:
    """What is not one token of the vocabulary: the error says what the tokenizer makes of it."""
    chat = chat_handle(byte_tokenizer())
    with pytest.raises(CheckpointError) as error:
        assemble_hd(LLM, crops((1, 2)), chat, row="\n\n")
    assert str(error.value) == (
        "assemble_hd.row: '\\n\\n' is no token of tiny, whose tokenizer writes it as [198, 198]; give the id "
        "of one token, e.g. row: 198"
    )


def test_other_words_are_not_taken_for_unknown(chat: Held) -> None:
    """<unk> stands for a newline alone, which is how released checkpoints were trained."""
    with pytest.raises(CheckpointError) as error:
        assemble_hd(LLM, crops((1, 2)), chat, column=";")
    assert str(error.value) == (
        "assemble_hd.column: ';' is no token of tiny, whose tokenizer writes it as [0]; give the id of one "
        "token"
    )


def test_a_string_needs_the_tokenizer() -> None:
    """Unless both are ids."""
    with pytest.raises(WiringError) as error:
        assemble_hd(LLM, crops((1, 2)))
    assert str(error.value) == (
        "assemble_hd.chat: not wired, but column: ',' has to be looked up; wire the checkpoint's chat, or "
        "give the token's id"
    )


@pytest.mark.parametrize("token_id", [-1, VOCAB])
def test_ids_outside_the_vocabulary_are_refused(token_id: int) -> None:
    """Also while planning."""
    message = (
        f"assemble_hd.row: token id {token_id} is outside the vocabulary, 0..59; look it up in the "
        "checkpoint's tokenizer"
    )
    with pytest.raises(WiringError) as error:
        assemble_hd(LLM, crops((1, 2)), column=None, row=token_id)
    assert str(error.value) == message
    with pytest.raises(WiringError) as error:
        foreseen(LLM, None, row=token_id)
    assert str(error.value) == message


def test_tokens_of_another_width_are_refused(chat: Held) -> None:
    """Also while planning."""
    message = (
        "assemble_hd.tokens: vectors of width 5, the language model's width is 8; project them with this "
        "checkpoint's projector first"
    )
    tokens = crops((1, 2))
    with pytest.raises(WiringError) as error:
        assemble_hd(LLM, tokens.with_features(tokens.features[:, :5]), chat)
    assert str(error.value) == message
    with pytest.raises(WiringError) as error:
        foreseen(LLM, KnownTokens(width=5))
    assert str(error.value) == message


@pytest.mark.gpu
def test_separators_lie_where_the_tokens_are() -> None:
    """Tokens on a GPU, a language model on the CPU."""
    there = crops((2, 2)).to("cuda")
    made = assemble_hd(LLM, there, column=COMMA, row=5).tokens
    assert made.device.type == "cuda"
    assert made.features.cpu().equal(assemble_hd(LLM, crops((2, 2)), column=COMMA, row=5).tokens.features)
