"""Checkpoints by folder, bundled name and hub id, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tokenloom.nodes.models import load_model
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models import hub

from ... import checkpoints as write

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fake_cache(home: Path, repo: str, folder: Path, ref: str = "main") -> Path:
    """A hub cache as huggingface_hub lays it out: refs, blobs, and snapshots of links to blobs."""
    root = home / "hub" / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    (root / "refs").mkdir(parents=True)
    (root / "refs" / ref).write_text(COMMIT)
    (root / "blobs").mkdir()
    for i, file in enumerate(sorted(f for f in folder.rglob("*") if f.is_file())):
        blob = root / "blobs" / f"{i:040x}"
        shutil.copyfile(file, blob)
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HF_HOME of this test, offline; huggingface_hub reads its variables once, so constants are set."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub._download.cache_clear()
    return tmp_path / "home"


def message(name: str, revision: str | None = None) -> str:
    with pytest.raises(CheckpointError) as error:
        hub.resolve(name, revision)
    return str(error.value)


def test_hub_id_from_the_cache(home: Path, tmp_path: Path) -> None:
    """A cached hub id loads offline, links and all."""
    write.write_llava15_original(tmp_path / "made", shards=2)
    snapshot = fake_cache(home, "someone/tiny-llava", tmp_path / "made")
    assert hub.resolve("someone/tiny-llava") == snapshot
    load_model(checkpoint="someone/tiny-llava").llm.load()


def test_revision(home: Path, tmp_path: Path) -> None:
    """A revision is a branch, a tag or a commit; one that is not cached is an error when offline."""
    write.write_tower(tmp_path / "made")
    snapshot = fake_cache(home, "someone/tower", tmp_path / "made", ref="v2")
    assert hub.resolve("someone/tower", "v2") == snapshot
    assert hub.resolve("someone/tower", COMMIT) == snapshot
    assert message("someone/tower", "v3").startswith("someone/tower@v3: not in the local hub cache")


def test_environment_variables(tmp_path: Path) -> None:
    """HF_HOME and HF_HUB_OFFLINE are honoured by a fresh process."""
    write.write_tower(tmp_path / "made")
    snapshot = fake_cache(tmp_path / "elsewhere", "someone/tower", tmp_path / "made")
    code = "from tokenloom.runtime.models.hub import resolve; print(resolve('someone/tower'))"
    env = {**os.environ, "HF_HOME": str(tmp_path / "elsewhere"), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_HUB_CACHE", None)
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(snapshot)


def test_not_cached_and_offline(home: Path) -> None:
    """Offline and not cached: what to do is said."""
    assert message("someone/else") == (
        "someone/else: not in the local hub cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set); "
        "download it once with a connection, or give a local folder"
    )


def test_tower_by_hub_id(home: Path, tmp_path: Path) -> None:
    """mm_vision_tower is a hub id when no such folder lies in the checkpoint."""
    write.write_llava15_original(tmp_path / "made", config={"mm_vision_tower": "openai/tiny"})
    shutil.move(tmp_path / "made" / "vision_tower", tmp_path / "tower")
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(tmp_path / "made"))
    assert str(error.value).startswith(
        f"{tmp_path / 'made' / 'config.json'}: mm_vision_tower openai/tiny: not in the local hub cache"
    )
    hub._download.cache_clear()
    fake_cache(home, "openai/tiny", tmp_path / "tower")
    load_model(checkpoint=str(tmp_path / "made")).vision.load()


def test_tower_by_hub_id_with_pickled_weights(home: Path, tmp_path: Path) -> None:
    """A hub tower without safetensors: the command puts a converted one where the checkpoint looks first."""
    made = tmp_path / "made"
    write.write_llava15_original(made, config={"mm_vision_tower": "openai/tiny"})
    shutil.move(made / "vision_tower", tmp_path / "tower")
    (tmp_path / "tower" / "model.safetensors").unlink()
    fake_cache(home, "openai/tiny", tmp_path / "tower")
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(made))
    assert str(error.value) == (
        f"openai/tiny: no safetensors there; if it has .bin files, write safetensors once with\n"
        f"  tokenloom convert openai/tiny {made / 'openai' / 'tiny'}"
    )


def test_local_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder that looks like a hub id is a folder."""
    write.write_tower(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("a/b") == tmp_path / "a" / "b"


def test_bundled_name() -> None:
    """A bundled checkpoint goes by its name, wherever one works."""
    for name in hub.bundled_names():
        assert hub.resolve(name) == (hub.BUNDLED / name).resolve()


def test_folders_of_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked for in every folder of TOKENLOOM_CHECKPOINTS; the first that has it counts."""
    for made in ("one/mine", "two/mine", "two/other", "two/nothing"):
        (tmp_path / made).mkdir(parents=True)
        if not made.endswith("nothing"):
            (tmp_path / made / "config.json").write_text("{}")
    folders = [str(tmp_path / name) for name in ("missing", "one", "two")]
    monkeypatch.setenv("TOKENLOOM_CHECKPOINTS", os.pathsep.join(["", *folders]))
    assert hub.resolve("mine") == tmp_path / "one" / "mine"
    assert hub.resolve("other") == tmp_path / "two" / "other"
    assert sorted(hub.by_name()) == sorted(["mine", "other", *hub.bundled_names()])
    assert message("othr").startswith(
        "othr: no such folder, no checkpoint of that name (did you mean 'other'?)"
    )
    monkeypatch.delenv("TOKENLOOM_CHECKPOINTS")
    assert list(hub.by_name()) == hub.bundled_names()


def test_misspelt_name() -> None:
    """A near miss of a known name is suggested."""
    assert message("tiny-randon") == (
        "tiny-randon: no such folder, no checkpoint of that name (did you mean 'tiny-random'?), and no hub "
        "id (those read owner/name)"
    )


def test_home_folder_of_nobody() -> None:
    """`~name` of an unknown user is a name like any other."""
    assert message("~nobody-of-that-name/x") == (
        f"~nobody-of-that-name/x: no such folder, no checkpoint of that name (known: "
        f"{', '.join(hub.by_name())}), and no hub id (those read owner/name)"
    )


def test_file_instead_of_folder(tmp_path: Path) -> None:
    """A file is not a checkpoint."""
    (tmp_path / "x").write_text("")
    assert message(str(tmp_path / "x")) == f"{tmp_path / 'x'}: a file; wanted the folder of a checkpoint"


def test_revision_of_a_folder(tmp_path: Path) -> None:
    """A revision of a local folder is refused, not ignored."""
    assert message(str(tmp_path), "main") == (
        f"{tmp_path}: revision 'main' was given, but this is a local folder; a revision belongs to a hub id"
    )


class _Hub(BaseHTTPRequestHandler):
    """A hub that knows gated/model and wants a token for it; everything else it does not know."""

    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        gated = "/gated/model/" in self.path
        self.send_response(403 if gated else 401)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  (http.server's name)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        (
            "gated/model",
            "gated/model: access must be asked for; accept its terms on the hub, then set HF_TOKEN",
        ),
        (
            "no/model",
            "no/model: no such folder and no such repository on the hub (a private one needs HF_TOKEN)",
        ),
    ],
)
def test_the_token_goes_to_the_hub(tmp_path: Path, repo: str, message: str) -> None:
    """HF_TOKEN is sent as huggingface_hub does; a hub on this machine answers as the real one would."""
    _Hub.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    code = (
        "from tokenloom.runtime.models.hub import resolve\n"
        f"try: resolve({repo!r})\nexcept ValueError as error: print(error)"
    )
    here = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "HF_HUB_OFFLINE"}
    env = here | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_TOKEN": "hf_secret",
        "HF_HOME": str(tmp_path),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert done.stdout.strip() == message
    asked = {token for path, token in _Hub.seen if repo in path}
    assert asked == {"Bearer hf_secret"}
