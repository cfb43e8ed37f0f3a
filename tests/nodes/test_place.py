"""place_tokens: visual tokens into slots, and where every row of the sequence comes from."""

from __future__ import annotations

import pytest
import torch

from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prompt import KnownPrompt
from tokenloom.runtime.errors import BudgetError, PromptError, WiringError
from tokenloom.runtime.foreseen import KnownState, KnownTokens
from tokenloom.runtime.values import Kind, Prompt, Segment, Slot, Source, Tile, VisualTokens

from ..runtime.models.tiny import VOCAB, WIDTH, Held, language_handle, tiny_language


@pytest.fixture(scope="module")
def llm() -> Held:
    return language_handle(tiny_language("llama"))


def pictures(count: int, width: int = WIDTH, seed: int = 0) -> VisualTokens:
    """Visual tokens of `count` pictures, 2 x 2 patches each."""
    tiles = tuple(Tile(frame=f, box=(0, 0, 8, 8)) for f in range(count))
    source = Source(tiles, 2, 2, sizes=((8, 8),) * count)
    features = torch.randn(4 * count, width, generator=torch.Generator().manual_seed(seed))
    return VisualTokens.of_patches(source, features)


def ids(*values: int | str) -> Prompt:
    """A prompt: numbers are text, "i" an image slot, "v" a video slot."""
    pieces: list[tuple[int, ...] | Slot] = []
    for value in values:
        if isinstance(value, str):
            pieces.append(Slot("image" if value == "i" else "video"))
        else:
            pieces.append((value,))
    return Prompt(pieces=tuple(pieces), stop=("</s>",))


def test_rows_know_where_they_come_from(llm: Held) -> None:
    """Embeddings, positions, segments, wires, tokens and ids of two pictures and three texts."""
    visual = pictures(2)
    placed = place_tokens(llm, ids(5, "i", 6, "i", 7), visual)
    assert placed.ids.tolist() == [5, *[-1] * 4, 6, *[-1] * 4, 7]
    assert placed.wire.tolist() == [-1, *[0] * 4, -1, *[0] * 4, -1]
    assert placed.token.tolist() == [-1, 0, 1, 2, 3, -1, 4, 5, 6, 7, -1]
    before, seen, between, after = (
        Segment.TEXT_BEFORE,
        Segment.VISUAL,
        Segment.TEXT_BETWEEN,
        Segment.TEXT_AFTER,
    )
    assert placed.segment.tolist() == [before, *[seen] * 4, between, *[seen] * 4, after]
    assert placed.position.tolist() == list(range(11))
    assert placed.embeds[6:10].equal(visual.features[4:])
    assert placed.embeds[[0, 5, 10]].equal(llm.load().embed(torch.tensor([5, 6, 7])))
    assert placed.tokens == (visual,)
    assert placed.stop == ("</s>",)


def test_a_wire_for_every_slot(llm: Held) -> None:
    """As many slots as wires: each takes its wire whole, also a clip in an image slot."""
    placed = place_tokens(llm, ids("i", 5, "i"), pictures(3), pictures(1))
    assert placed.wire.tolist() == [*[0] * 12, -1, *[1] * 4]


def test_pictures_of_several_wires_in_order(llm: Held) -> None:
    """More slots than wires: one picture each, wire by wire."""
    placed = place_tokens(llm, ids("i", "i", "i"), pictures(2), pictures(1))
    assert placed.wire.tolist() == [*[0] * 8, *[1] * 4]
    assert placed.token.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]


def test_a_clip_between_pictures(llm: Held) -> None:
    """A video slot takes the next wire whole, image slots one picture each."""
    placed = place_tokens(llm, ids("i", "i", "v"), pictures(2), pictures(3))
    assert placed.wire.tolist() == [*[0] * 8, *[1] * 12]


def test_rows_of_a_picture_keep_their_order(llm: Held) -> None:
    """Splitting a wire by picture never reorders a picture's rows."""
    visual = pictures(2)
    mixed = visual.select(torch.tensor([6, 1, 0, 4]))
    placed = place_tokens(llm, ids("i", 5, "i"), mixed)
    assert placed.token.tolist() == [1, 2, -1, 0, 3]


def test_special_tokens_go_with_their_picture(llm: Held) -> None:
    """A newline's home tile decides its slot."""
    visual = pictures(2)
    line = VisualTokens.special(visual.source, torch.ones(1, WIDTH), Kind.NEWLINE, torch.tensor([1]))
    placed = place_tokens(llm, ids("i", 5, "i"), visual.concat(line))
    assert placed.token.tolist() == [0, 1, 2, 3, -1, 4, 5, 6, 7, 8]


def test_text_alone_needs_no_picture(llm: Held) -> None:
    """A prompt without slots takes no visual wire; all its rows are text after."""
    placed = place_tokens(llm, ids(5, 6))
    assert placed.segment.tolist() == [Segment.TEXT_AFTER] * 2
    assert placed.tokens == ()


def test_a_slot_may_stay_empty_of_tokens(llm: Held) -> None:
    """A picture that lost all its tokens leaves its slot empty."""
    visual = pictures(2)
    placed = place_tokens(llm, ids(5, "i", "i"), visual.select(torch.arange(4)))
    assert placed.token.tolist() == [-1, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("prompt", "wires", "message"),
    [
        (
            ids(5, 6),
            [2],
            "place_tokens: the prompt has no <image>, but 2 pictures on 1 wire came; give every picture one "
            "<image>, or every wire one slot (render_chat: question, images, media)",
        ),
        (
            ids("i", "i", 5),
            [1],
            "place_tokens: the prompt has 2 <image>, but 1 picture on 1 wire came; give every picture one "
            "<image>, or every wire one slot (render_chat: question, images, media)",
        ),
        (
            ids("i", 5),
            [2, 1],
            "place_tokens: the prompt has 1 <image>, but 3 pictures on 2 wires came; give every picture one "
            "<image>, or every wire one slot (render_chat: question, images, media)",
        ),
        (
            ids("i", "v", 5),
            [2],
            "place_tokens: the prompt has 1 <image> and 1 <video>, but 2 pictures on 1 wire came; give every "
            "picture one <image>, or every wire one slot (render_chat: question, images, media)",
        ),
        (
            ids("i", 5),
            [],
            "place_tokens: the prompt has 1 <image>, but 0 pictures on 0 wires came; give every picture one "
            "<image>, or every wire one slot (render_chat: question, images, media)",
        ),
    ],
)
def test_slots_and_pictures_must_come_out_even(
    llm: Held, prompt: Prompt, wires: list[int], message: str
) -> None:
    """Too few or too many: the counts, and what to do."""
    with pytest.raises(PromptError) as e:
        place_tokens(llm, prompt, *map(pictures, wires))
    assert str(e.value) == message


def test_planning_finds_what_cannot_fit(llm: Held) -> None:
    """Slots without any wire, wires without any slot, and a wrong width, before a weight is read."""
    assert place_tokens.foresee is not None
    widgets = place_tokens.check_widgets({})
    one = KnownPrompt((Slot("image"),))
    with pytest.raises(PromptError) as e:
        place_tokens.foresee(llm, KnownPrompt(()), KnownTokens(), **widgets)
    assert str(e.value) == (
        "place_tokens: the prompt has no <image>, but 1 wire of visual tokens came; give every picture one "
        "<image>, or every wire one slot (render_chat: question, images, media)"
    )
    with pytest.raises(PromptError, match="has 1 <image>, but 0 wires of visual tokens came"):
        place_tokens.foresee(llm, one, **widgets)
    two = KnownPrompt((Slot("image"), Slot("image")))
    with pytest.raises(PromptError, match="has 2 <image>, but 1 picture on 1 wire came"):
        place_tokens.foresee(llm, two, KnownTokens(tiles=1), **widgets)
    for unsure in (KnownTokens(tiles=2), KnownTokens(), None):
        place_tokens.foresee(llm, two, unsure, **widgets)
    with pytest.raises(WiringError, match="wire 1 holds tokens of width 33"):
        place_tokens.foresee(llm, one, KnownTokens(width=33), **widgets)
    assert place_tokens.foresee(None, None, None, **widgets) is None
    known = place_tokens.foresee(llm, one, KnownTokens(width=WIDTH), None, **widgets)
    assert known == KnownState(layer=0, model=llm.fingerprint, wires=2)


def test_an_empty_prompt(llm: Held) -> None:
    """Nothing to read is an error."""
    with pytest.raises(PromptError) as e:
        place_tokens(llm, Prompt(pieces=()))
    assert str(e.value) == "place_tokens: the prompt is empty; write a question"


def test_a_prompt_longer_than_the_context(llm: Held) -> None:
    """The numbers, before anything runs."""
    with pytest.raises(BudgetError) as e:
        place_tokens(llm, ids(5, "i", 6, 7), pictures(1), max_length=6)
    assert str(e.value) == (
        "place_tokens: the prompt has 7 rows (4 visual tokens, 3 of text), the limit is 6; keep fewer visual "
        "tokens, use fewer frames or tiles, or set truncate: true"
    )
    with pytest.raises(BudgetError, match="the limit is 256;"):
        place_tokens(llm, Prompt(pieces=((5,) * 257,)))


def test_truncation_on_the_right(llm: Held) -> None:
    """truncate cuts text and pictures alike, as the released code does."""
    placed = place_tokens(llm, ids(5, "i", 6, 7), pictures(1), max_length=3, truncate=True)
    assert placed.token.tolist() == [-1, 0, 1]


def test_tokens_of_another_width(llm: Held) -> None:
    """Tokens that were not projected for this model."""
    with pytest.raises(WiringError) as e:
        place_tokens(llm, ids("i"), pictures(1, width=WIDTH + 1))
    assert str(e.value) == (
        "place_tokens.visual: wire 1 holds tokens of width 33, the language model's width is 32; project "
        "them with this checkpoint's projector first"
    )


def test_a_token_id_of_another_vocabulary(llm: Held) -> None:
    """An id that the embedding does not have."""
    with pytest.raises(PromptError) as e:
        place_tokens(llm, ids(VOCAB))
    assert str(e.value) == (
        "place_tokens.prompt: token id 101 is outside the model's vocabulary of 101; use the tokenizer of "
        "the same checkpoint"
    )
