"""Map tokens to the language model's width."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..runtime.errors import WiringError
from ..runtime.foreseen import KnownTokens
from ..runtime.models.handle import Model
from ..runtime.models.projector import Projector
from ..runtime.node import node
from ..runtime.values import Tokens, VisualTokens


def _foresee(projector: Model[Projector] | None, tokens: KnownTokens | None) -> KnownTokens | None:
    facts = projector.facts.projector if projector is not None else None
    if facts is None or tokens is None:
        return tokens
    if tokens.width is not None:
        _check_width(tokens.width, facts.inputs)
    return replace(tokens, width=facts.outputs)


@node(version=1, lane="gpu", foresee=_foresee)
def project_mlp(projector: Model[Projector], tokens: Tokens) -> VisualTokens:
    """The same tokens as vectors of the language model's width.

    Errors: WiringError when the tokens have another width than the projector takes.

    projector: linear, mlp2x_gelu and its kin, or identity.
    tokens: of the tower's width; before or after selection and merging.
    """
    if projector.facts.projector is not None:
        _check_width(tokens.width, projector.facts.projector.inputs)
    with torch.no_grad():
        features = projector.load()(tokens.features)
    return tokens.to(features.device).with_features(features, into=VisualTokens)


def _check_width(width: int, inputs: int) -> None:
    if width != inputs:
        raise WiringError(
            f"project_mlp.tokens: vectors of width {width}, the projector takes {inputs}; wire the tower and "
            "the projector of the same checkpoint"
        )
