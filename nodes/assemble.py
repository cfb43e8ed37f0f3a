"""Crops into one sequence, with separators that say where a crop and a row of crops ends (TokenPacker-HD)."""

# N = tokens, K = tiles, L = separators, D = width of the language model

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime.context import current
from ..runtime.errors import CheckpointError, WiringError
from ..runtime.foreseen import KnownTokens
from ..runtime.models.chat import ChatFormat
from ..runtime.models.handle import LanguageFacts, Model
from ..runtime.models.language import LanguageModel
from ..runtime.node import node
from ..runtime.values import Kind, Source, Table, VisualTokens

NEWLINE = "\n"
Separator = int | str


class Assembled(NamedTuple):
    """The visual tokens in reading order, and which token of the vocabulary each kind of separator is."""

    tokens: VisualTokens
    separators: Table


@dataclass(frozen=True, kw_only=True)
class KnownAssembled:
    """What a plan knows of the tokens."""

    tokens: KnownTokens


def _foresee(
    llm: Model[LanguageModel] | None,
    tokens: KnownTokens | None,
    chat: Model[ChatFormat] | None,
    *,
    column: Separator | None,
    row: Separator | None,
) -> KnownAssembled | None:
    facts = llm.facts.language if llm is not None else None
    wired = current().wired
    missing = bool(wired) and "chat" not in wired
    for name, asked in (("column", column), ("row", row)):
        if facts is not None and (isinstance(asked, int) or chat is not None or missing):
            _id(name, asked, chat, facts)
    if tokens is None:
        return None
    if facts is not None and tokens.width is not None:
        _check_width(tokens.width, facts)
    return KnownAssembled(tokens=replace(tokens, per_tile=_per_tile(tokens, column, row), grid=False))


def _per_tile(tokens: KnownTokens, column: Separator | None, row: Separator | None) -> int | None:
    """Every crop ends with one separator, of one kind or the other."""
    if tokens.per_tile is None or (column is None) != (row is None):
        return None
    return tokens.per_tile + (row is not None)


@node(version=1, lane="gpu", foresee=_foresee)
def assemble_hd(
    llm: Model[LanguageModel],
    tokens: VisualTokens,
    chat: Model[ChatFormat] | None = None,
    *,
    column: Separator | None = ",",
    row: Separator | None = NEWLINE,
) -> Assembled:
    """Per picture: its crops row by row, a comma between those of a row and a newline after each, the global
    view last, and a newline.

    A separator is the embedding of one token of the vocabulary, stands for no patch, and is at home in the
    crop that it ends; also one that lost all of its tokens. Errors: CheckpointError for separators that the
    tokenizer lacks. Source: TokenPacker-HD's released code.

    llm: embeds the separators.
    tokens: of slice_hd's tiles, any number of each.
    chat: looks the separators up; not needed for ids.
    column: between the crops of a row: one token of the vocabulary as it is spelt there or as text, its id,
        or null for none.
    row: after each row of crops, and after the global view: likewise. LLaMA's vocabulary spells no newline,
        so that "\\n" stands for `<unk>` there, as released checkpoints were trained.
    """
    model = llm.load()
    _check_width(tokens.width, model.facts)
    ids = {name: _id(name, asked, chat, model.facts) for name, asked in (("column", column), ("row", row))}
    order_K, last_K = _reading_order(tokens.source)
    rank_K = order_K.argsort().to(tokens.device)
    ends = {"column": order_K[~last_K], "row": order_K[last_K]}
    parts, rank = [tokens], [2 * rank_K[tokens.home]]
    for name, end_L in ends.items():
        found = ids[name]
        if found is not None:
            parts.append(_separators(model, tokens, found, end_L))
            rank.append(2 * rank_K[parts[-1].home] + 1)
    joined = parts[0].concat(*parts[1:]).select(torch.cat(rank).argsort(stable=True))
    return Assembled(joined, _table({"column": column, "row": row}, ids, ends, chat))


def _reading_order(source: Source) -> tuple[Tensor, Tensor]:
    """[K] long: the tiles as they are read; [K] bool: it ends a row. The global view is a row by itself."""
    places = [(tile.frame, tile.whole, tile.row, tile.col) for tile in source.tiles]
    order = sorted(range(len(places)), key=places.__getitem__)
    rows = [places[i][:3] for i in order]
    last = [row != after for row, after in zip(rows, [*rows[1:], None], strict=True)]
    return torch.tensor(order), torch.tensor(last)


def _separators(model: LanguageModel, tokens: VisualTokens, token_id: int, home_L: Tensor) -> VisualTokens:
    """A separator at the end of each of these tiles; nothing in side channels."""
    embed = model.embed(torch.tensor([token_id])).to(tokens.features).expand(len(home_L), -1)
    blank = {key: value.new_zeros(len(home_L), *value.shape[1:]) for key, value in tokens.side.items()}
    return VisualTokens.special(tokens.source, embed, Kind.SEPARATOR, home_L).with_side(**blank)


def _id(
    name: str, asked: Separator | None, chat: Model[ChatFormat] | None, facts: LanguageFacts
) -> int | None:
    """The token's id, as asked or looked up in the vocabulary as it is spelt there."""
    if asked is None:
        return None
    found = asked if isinstance(asked, int) else _looked_up(name, asked, chat)
    _check_id(name, found, facts)
    return found


def _looked_up(name: str, text: str, chat: Model[ChatFormat] | None) -> int:
    if chat is None:
        raise WiringError(
            f"assemble_hd.chat: not wired, but {name}: {text!r} has to be looked up; wire the checkpoint's "
            f"chat, or give the token's id"
        )
    tokenizer = chat.load().tokenizer
    found, unknown = tokenizer.convert_tokens_to_ids(text), tokenizer.unk_token_id
    # <unk> for a newline is what released checkpoints were trained with; for anything else it is a mistake
    if found is not None and (found != unknown or text in (NEWLINE, tokenizer.unk_token)):
        return int(found)
    written = list(tokenizer(text, add_special_tokens=False).input_ids)
    if len(written) == 1 and written[0] != unknown:  # bytes go by other names in GPT-2's vocabularies
        return int(written[0])
    example = f", e.g. {name}: {written[-1]}" if written and written[-1] != unknown else ""
    raise CheckpointError(
        f"assemble_hd.{name}: {text!r} is no token of {chat.facts.name}, whose tokenizer writes it as "
        f"{written}; give the id of one token{example}"
    )


def _check_id(name: str, token_id: int, facts: LanguageFacts) -> None:
    if not 0 <= token_id < facts.vocab:
        raise WiringError(
            f"assemble_hd.{name}: token id {token_id} is outside the vocabulary, 0..{facts.vocab - 1}; look "
            "it up in the checkpoint's tokenizer"
        )


def _check_width(width: int, facts: LanguageFacts) -> None:
    if width != facts.hidden:
        raise WiringError(
            f"assemble_hd.tokens: vectors of width {width}, the language model's width is {facts.hidden}; "
            "project them with this checkpoint's projector first"
        )


def _table(
    asked: dict[str, Separator | None],
    ids: dict[str, int | None],
    ends: dict[str, Tensor],
    chat: Model[ChatFormat] | None,
) -> Table:
    """What was asked for, what it became, and how often it stands in the sequence."""
    rows = []
    for name, token_id in ids.items():
        spelt = None
        if token_id is not None and chat is not None:
            spelt = str(chat.load().tokenizer.convert_ids_to_tokens(token_id))
        count = 0 if token_id is None else len(ends[name])
        text = asked[name]
        rows.append((name, repr(text) if isinstance(text, str) else text, token_id, spelt, count))
    return Table(("separator", "asked", "id", "token", "count"), tuple(rows), "separators")
