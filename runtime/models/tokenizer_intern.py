"""InternLM2's tokenizer from its SentencePiece `tokenizer.model`, without the checkpoint's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .configs import Json, read_json

SPACE = "▁"
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")


def internlm2_tokenizer(folder: Path) -> Any:
    """A transformers PreTrainedTokenizerFast: byte-pair pieces, bytes for what is unknown, `<s>` in front.

    Ids and text are those of the released slow tokenizer: merges go by the pieces' scores, special tokens are
    cut out first, and each text between them is normalised by itself. Errors: CheckpointError without a
    tokenizer.model.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    model = _model(folder / "tokenizer.model")
    settings = read_json(folder / "tokenizer_config.json")
    special, dummy = _special(folder, settings), model.normalizer_spec.add_dummy_prefix
    pieces = {piece.piece: (i, piece.score) for i, piece in enumerate(model.pieces)}
    taken = set(special)
    vocabulary = {text: i for text, (i, _) in pieces.items() if i not in taken}
    vocabulary |= {text: i for i, text in special.items()}
    unknown = model.pieces[model.trainer_spec.unk_id].piece
    made = [
        p.piece for i, p in enumerate(model.pieces) if p.type in (p.NORMAL, p.USER_DEFINED) and i not in taken
    ]
    merges = _merges({text: pieces[text] for text in made})
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    front = [normalizers.Prepend(SPACE)] if dummy else []
    core.normalizer = normalizers.Sequence([*front, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if dummy else []
    core.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    core.add_special_tokens([AddedToken(special[i], normalized=False) for i in sorted(special)])
    names = {key: _text(settings[key]) for key in NAMED if settings.get(key)}
    bos = names.get("bos_token", "<s>")
    core.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **names)


def _model(file: Path) -> Any:
    """The SentencePiece model as a protobuf message."""
    if not file.is_file():
        raise CheckpointError(f"{file}: not there; it holds the pieces of InternLM2's tokenizer")
    from sentencepiece import sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2
    model = messages.ModelProto()
    model.ParseFromString(file.read_bytes())
    return model


def _special(folder: Path, settings: Json) -> dict[int, str]:
    """Special tokens by id, which stand before the pieces of the same id."""
    told = settings.get("added_tokens_decoder")
    if told:
        return {int(number): str(token["content"]) for number, token in told.items()}
    return {int(number): text for text, number in read_json(folder / "added_tokens.json").items()}


def _merges(pieces: dict[str, tuple[int, float]]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the best-scored piece first, then by the parts' ids."""
    found: list[tuple[float, int, int, str, str]] = []
    for piece, (_, score) in pieces.items():
        for cut in range(1, len(piece)):
            left, right = pieces.get(piece[:cut]), pieces.get(piece[cut:])
            if left is not None and right is not None:
                found.append((-score, left[0], right[0], piece[:cut], piece[cut:]))
    return [(left, right) for *_, left, right in sorted(found)]


def _text(token: Any) -> str:
    """A token as text, which some files spell out with its properties."""
    return str(token["content"] if isinstance(token, dict) else token)
