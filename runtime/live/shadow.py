"""A model's layers with SDPA, whatever attention the model itself was loaded with; weights are shared."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from ..errors import ModelError


def with_sdpa(module: Any) -> Any:
    """`module`, or, if its attention is another than SDPA, modules around the same parameters that use it.

    The given module stays as it is. Errors: ModelError for layers whose `forward` somebody has replaced, for
    it would still be the old module's.
    """
    used = getattr(module.config, "_attn_implementation", None)
    if used == "sdpa":
        return module
    for name, child in module.named_modules():
        if "forward" in vars(child):
            raise ModelError(
                f"compress.model: its attention is {used!r}, and the forward of {name or 'it'} was replaced "
                "(by accelerate's hooks, or kernels); load it with attn_implementation='sdpa'"
            )
    config = copy.deepcopy(module.config)
    config._attn_implementation = "sdpa"
    return _shadow(module, config)


def _shadow(module: nn.Module, config: Any) -> nn.Module:
    """The module and its children anew: the same parameters, buffers and all else, but this configuration."""
    made = copy.copy(module)
    vars(made)["_modules"] = {
        name: None if child is None else _shadow(child, config) for name, child in module._modules.items()
    }
    if "config" in vars(made):
        vars(made)["config"] = config
    return made
