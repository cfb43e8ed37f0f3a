"""From what a user writes to a local folder: a folder, a checkpoint by its name, or a hub id.

Names are those of the bundled checkpoints, and of what lies in the folders of TOKENLOOM_CHECKPOINTS. Hub
files go where huggingface_hub keeps them: HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT mean what they
mean everywhere; there is no cache of our own.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from ..errors import CheckpointError, did_you_mean

BUNDLED = Path(__file__).parent / "bundled"
SHELVES = "TOKENLOOM_CHECKPOINTS"  # further folders of checkpoints, as PATH has them
SMALL_FILES = ("*.json", "*.model", "*.txt", "*.jinja")  # configurations and tokenizers
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")


def bundled_names() -> list[str]:
    """Names of the checkpoints that come with tokenloom."""
    return sorted(f.parent.name for f in BUNDLED.glob("*/config.json"))


def shelves() -> list[Path]:
    """The folders in which names are looked for, in order: the bundled ones', then TOKENLOOM_CHECKPOINTS'."""
    more = [name for name in os.environ.get(SHELVES, "").split(os.pathsep) if name]
    return [BUNDLED, *(Path(os.path.expanduser(name)) for name in more)]


def by_name() -> dict[str, Path]:
    """The checkpoints that go by a name; of two with the same name the first."""
    found: dict[str, Path] = {}
    for shelf in shelves():
        for file in sorted(shelf.glob("*/config.json")):
            found.setdefault(file.parent.name, file.parent)
    return dict(sorted(found.items()))


def resolve(
    checkpoint: str, revision: str | None = None, *, weights: bool = True, pickled: bool = False
) -> Path:
    """The local folder of a checkpoint; a hub id is downloaded if it is not in the hub cache.

    weights: False for configurations alone. pickled: also `.bin` files (only `tokenloom convert` reads them).
    Errors: CheckpointError when there is no such folder, bundled name or repository, or no way to reach it.
    """
    folder = Path(os.path.expanduser(checkpoint))  # ~nobody stays as it is
    local = folder if folder.is_dir() else by_name().get(checkpoint)
    if local is not None:
        if revision is not None:
            raise CheckpointError(
                f"{checkpoint}: revision {revision!r} was given, but this is a local folder; "
                f"a revision belongs to a hub id"
            )
        return local.resolve()
    if folder.is_file():
        raise CheckpointError(f"{checkpoint}: a file; wanted the folder of a checkpoint")
    if not _HUB_ID.fullmatch(checkpoint):
        raise CheckpointError(
            f"{checkpoint}: no such folder, no checkpoint of that name{_hint(checkpoint)}, and no hub id "
            f"(those read owner/name)"
        )
    return _download(checkpoint, revision, weights, pickled)


def _hint(name: str) -> str:
    hint = did_you_mean(name, by_name())
    return f" ({hint.removeprefix('; ')})" if hint else ""


@lru_cache(maxsize=256)
def _download(repo: str, revision: str | None, weights: bool, pickled: bool) -> Path:
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    patterns = [*SMALL_FILES, *(["*.safetensors"] if weights else []), *(["*.bin"] if pickled else [])]
    at = f"{repo}@{revision}" if revision else repo
    try:
        try:
            found = snapshot_download(repo, revision=revision, allow_patterns=patterns)
        except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled):
            # huggingface_hub 1.33 asks the hub for the files of a commit even when they are all here
            found = snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=True)
        return Path(found).resolve()
    except hub.GatedRepoError:
        raise CheckpointError(
            f"{at}: access must be asked for; accept its terms on the hub, then set HF_TOKEN"
        ) from None
    except hub.RevisionNotFoundError:
        raise CheckpointError(f"{repo}: no revision {revision!r} on the hub") from None
    except hub.RepositoryNotFoundError:
        raise CheckpointError(
            f"{at}: no such folder and no such repository on the hub (a private one needs HF_TOKEN)"
        ) from None
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled):
        raise CheckpointError(
            f"{at}: not in the local hub cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set); "
            f"download it once with a connection, or give a local folder"
        ) from None
    except (hub.HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"{at}: the hub answered with an error: {error}") from error


def tower_folder(checkpoint: Path, tower: str, *, weights: bool, whose: str = "") -> Path:
    """The folder of a separate vision tower: relative to the checkpoint, else as any checkpoint name.

    whose: who named it, if not config.json.
    """
    if tower and (checkpoint / tower / "config.json").is_file():
        return (checkpoint / tower).resolve()
    try:
        return resolve(tower, weights=weights)
    except CheckpointError as error:
        if whose:
            raise CheckpointError(f"{whose}: {error}") from None
        raise CheckpointError(
            f"{checkpoint / 'config.json'}: mm_vision_tower {error}; load_model's vision_tower names another"
        ) from None
