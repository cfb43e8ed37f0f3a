"""Headers of safetensors files on the hub, without their weights: some hundred kB, however large they are."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from .headers import ITEM_BYTES, Stored


def remote_headers(repo: str, revision: str | None = None) -> dict[str, dict[str, Stored]]:
    """By file name the tensors of a hub repository.

    Errors: CheckpointError when the hub cannot be reached, or the repository has no safetensors.
    """
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    try:
        found = HfApi().get_safetensors_metadata(repo, revision=revision)
    except hub.NotASafetensorsRepoError:
        raise CheckpointError(
            f"{repo}: no model.safetensors and no index there; download its files and give their folder"
        ) from None
    except hub.SafetensorsParsingError as error:
        raise CheckpointError(f"{repo}: not sound safetensors files: {error}") from None
    except Exception as error:  # the HTTP library differs by version of the hub's, and so do its errors
        raise CheckpointError(f"{repo}: the headers of its files cannot be read: {error}") from error
    out: dict[str, dict[str, Stored]] = {}
    for name, file in sorted(found.files_metadata.items()):
        out[name] = {
            tensor: Stored(tensor, Path(repo) / name, _dtype(repo, tensor, info.dtype), tuple(info.shape))
            for tensor, info in file.tensors.items()
        }
    return out


def _dtype(repo: str, tensor: str, dtype: str) -> str:
    if dtype not in ITEM_BYTES:
        raise CheckpointError(f"{repo}: {tensor} has dtype {dtype!r}, wanted one of {', '.join(ITEM_BYTES)}")
    return dtype
