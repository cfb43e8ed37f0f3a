"""Bad input through whole graphs and the command line: one clear message, the right exit code, no traceback.

The parts have their own tests (tests/nodes/test_media.py, tests/runtime/models/test_headers.py, ...); here
the bundled graphs and the bundled checkpoint run, and a mistake is followed to what its maker reads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import tokenloom
from tests import clips
from tests.checkpoints import RANDOM
from tokenloom.runtime.cli import app

MEDIA = Path(__file__).parents[1] / "examples" / "media"
PICTURE, CLIP = MEDIA / "shapes.png", MEDIA / "shapes.mp4"
GRAPHS = Path(tokenloom.__file__).parent / "graphs"
TINY = RANDOM / "tiny-random"
COMMAND = "import sys; from tokenloom.runtime.cli import main; sys.argv[0] = 'tokenloom'; main()"
# a job in the background of a shell ignores SIGINT, and so would its children
TAKES_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


@dataclass(frozen=True)
class Told:
    """Exit code, stdout, and stderr line by line."""

    code: int
    out: str
    err: list[str]

    @property
    def message(self) -> str:
        """What stderr says before the notes."""
        return self.err[0] if self.err else ""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test meets the cache of another, and messages name graphs by their whole path."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


EXACT = {"visionzip": "tiny-random", "visionzip_next": "tiny-random-next", "visionzip_video": "tiny-random"}


def run(graph: str, *words: str) -> Told:
    """The command line, with random weights of the graph's family unless a checkpoint is given."""
    if graph in EXACT and not any(word.startswith("checkpoint=") for word in words):
        words = (f"checkpoint={EXACT[graph]}", *words)
    done = CliRunner().invoke(app, ["run", graph, "-q", "max_new_tokens=2", *words])
    assert "Traceback" not in done.stderr
    assert not isinstance(done.exception, Exception), done.exception
    return Told(done.exit_code, done.stdout, done.stderr.splitlines())


def at(graph: str, node: str, kind: str) -> str:
    """`in node dominant (select_dominant), .../visionzip.yaml:9:3`, read off the graph file itself."""
    lines = (GRAPHS / graph).read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.startswith(f"  {node}:"))
    return f"  in node {node} ({kind}), {GRAPHS / graph}:{number}:3"


def short(value: object) -> str:
    """A long path, as messages cut it."""
    text = repr(str(value))
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


def planned_at(graph: str, node: str, kind: str, key: str, given: str = "") -> list[str]:
    """The same of a mistake found while planning: the place of a setting, its line, and a caret."""
    lines = (GRAPHS / graph).read_text(encoding="utf-8").splitlines()
    number, line = next((i, line) for i, line in enumerate(lines, 1) if line.startswith(f"  {node}:"))
    column = line.index(f" {key}: ") + len(f" {key}: ") if key else 2
    head = f"  in node {node} ({kind}), {GRAPHS / graph}:{number}:{column + 1}, while planning"
    told = f": {key} (from parameter {given})" if given else ""
    return [head + told, f"      {line}", f"      {' ' * column}^"]


# -- pictures ------------------------------------------------------------------------------------------------

rng = np.random.default_rng(7)
COLOURS = rng.integers(0, 255, (30, 50, 3), np.uint8)


def pictures() -> dict[str, Callable[[Path], None]]:
    rgb = Pil.fromarray(COLOURS)
    turned = rgb.getexif()
    turned[0x112] = 6
    return {
        "one.png": lambda p: Pil.fromarray(COLOURS[:1, :1]).save(p),
        "wide.png": lambda p: Pil.fromarray(np.resize(COLOURS, (1, 700, 3))).save(p),
        "high.png": lambda p: Pil.fromarray(np.resize(COLOURS, (700, 1, 3))).save(p),
        "grey.png": lambda p: rgb.convert("L").save(p),
        "alpha.png": lambda p: rgb.convert("RGBA").save(p),
        "cmyk.jpg": lambda p: rgb.convert("CMYK").save(p),
        "palette.png": lambda p: rgb.convert("P").save(p),
        "deep.png": lambda p: Pil.fromarray(rng.integers(0, 65535, (30, 50), np.uint16)).save(p),
        "moving.gif": lambda p: rgb.save(p, save_all=True, append_images=[rgb.rotate(90)]),
        "turned.jpg": lambda p: rgb.save(p, exif=turned),
        "ünï cödé 图.png": lambda p: rgb.save(p),
    }


@pytest.mark.parametrize(("graph", "count"), [("visionzip", 17), ("visionzip_next", 96)])
@pytest.mark.parametrize("name", list(pictures()))
def test_every_kind_of_picture_is_answered(graph: str, count: int, name: str, tmp_path: Path) -> None:
    """Odd sizes and modes go through the whole of both graphs."""
    pictures()[name](tmp_path / name)
    told = run(graph, f"image={tmp_path / name}", "--no-cache")
    assert (told.code, told.err) == (0, [])
    assert told.out.startswith("answer: ")
    assert f"Tokens[{count} x 64, float32, cpu]" in told.out or f"Patches[{count} x 64" in told.out


def bad_pictures() -> dict[str, tuple[Callable[[Path], object], str]]:
    return {
        "none.jpg": (lambda p: None, "no such file; give the path of a picture"),
        "empty.jpg": (lambda p: p.write_bytes(b""), "the file is empty (0 bytes); fetch or write it again"),
        "text.jpg": (
            lambda p: p.write_text("hello"),
            "not a picture that Pillow can read (it starts with b'hello'); wanted JPEG, PNG, WebP, BMP, GIF "
            "or TIFF; check the file",
        ),
        "cut.png": (
            lambda p: p.write_bytes(PICTURE.read_bytes()[:900]),
            "the picture is damaged (it ends too early); fetch or save it again",
        ),
        "folder.jpg": (
            lambda p: p.mkdir(),
            "a folder, wanted a picture file; a folder of frames is opened by load_video",
        ),
    }


@pytest.mark.parametrize("name", list(bad_pictures()))
def test_a_bad_picture_is_refused_before_weights_are_read(name: str, tmp_path: Path) -> None:
    """The file, what is wrong and what to do, then the node; exit code 2, since nothing ran."""
    make, wanted = bad_pictures()[name]
    make(tmp_path / name)
    told = run("visionzip", f"image={tmp_path / name}")
    assert (told.code, told.out) == (2, "")
    assert told.err == [
        f"error: load_image: {tmp_path / name}: {wanted}",
        *planned_at("base/llava15.yaml", "frames", "load_image", "path", f"image = {short(tmp_path / name)}"),
    ]
    assert not (tmp_path / "cache").exists()


def test_an_empty_path_is_no_folder() -> None:
    """`image=` is not the folder one happens to be in."""
    told = run("visionzip", "image=")
    assert (told.code, told.err) == (2, ["error: params.image: '' is empty, wanted path or list of path"])


# -- clips ---------------------------------------------------------------------------------------------------


def bad_clips() -> dict[str, tuple[Callable[[Path], object], str]]:
    return {
        "none.mp4": (lambda p: None, "no such file; give the path of a video"),
        "empty.mp4": (lambda p: p.write_bytes(b""), "the file is empty (0 bytes); fetch or write it again"),
        "text.mp4": (
            lambda p: p.write_text("hello"),
            "not a video that FFmpeg can open (Invalid data found when processing input; it starts with "
            "b'hello'); wanted MP4, MKV, WebM, AVI, MOV or MPEG-TS; check the file, or fetch it again",
        ),
        "sound.mp4": (
            clips.audio_only,
            "holds audio streams but no video; give a file with pictures",
        ),
    }


@pytest.mark.parametrize("name", list(bad_clips()))
def test_a_bad_clip_is_refused_before_weights_are_read(name: str, tmp_path: Path) -> None:
    """Missing, empty, no video at all, sound alone: one message, exit code 2."""
    make, wanted = bad_clips()[name]
    make(tmp_path / name)
    told = run("visionzip_video", f"video={tmp_path / name}")
    assert (told.code, told.out) == (2, "")
    assert told.err == [
        f"error: load_video: {tmp_path / name}: {wanted}",
        *planned_at(
            "visionzip_video.yaml", "clip", "load_video", "path", f"video = {short(tmp_path / name)}"
        ),
    ]


def test_a_clip_that_is_cut_off_says_what_is_missing(tmp_path: Path) -> None:
    """Frames that are announced and not there are counted; a setting goes on with the readable ones."""
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(CLIP.read_bytes()[: CLIP.stat().st_size // 2])
    told = run("visionzip_video", f"video={cut}", "count=16")
    assert told.code == 1
    assert told.message.startswith(f"error: sample_frames: {cut}: ")
    assert told.message.endswith(
        "the file is damaged or cut off; mend the file, or set damaged: clamp to repeat the last frame that "
        "can be read"
    )
    clamped = run("visionzip_video", f"video={cut}", "count=16", "--set", "frames.damaged=clamp")
    assert clamped.code == 0


# -- budgets, prompts, context -------------------------------------------------------------------------------

BUDGETS = [
    (("keep=500",), "error: select_dominant: keep 500 of 145 tokens per tile; set keep to 145 or less"),
    (
        ("keep=140", "targets=10"),
        "error: merge_contextual: keep 140 + targets 10 of 145 tokens per tile, 5 of them left over; lower "
        "keep or targets so that both together are 145 or less",
    ),
    (("keep=0",), "error: params.keep: 0 is below 1"),
    (("keep=-1",), "error: params.keep: -1 is below 1"),
    (("targets=-1",), "error: params.targets: -1 is below 0"),
    (("keep=many",), "error: params.keep: 'many' is a str, wanted int 1.."),
    (("keep=1.5",), "error: params.keep: 1.5 is a float, wanted int 1.."),
    (
        ("--set", "dominant.keep=0"),
        "error: select_dominant: keep 0 of 145 tokens per tile leaves no place for [CLS], which counts; set "
        "keep to 1 or more, or cls_token: drop",
    ),
]


@pytest.mark.parametrize("graph", ["visionzip", "visionzip_next"])
@pytest.mark.parametrize(
    ("words", "wanted"), BUDGETS, ids=lambda one: " ".join(one) if type(one) is tuple else ""
)
def test_a_budget_that_cannot_be_kept_is_refused_while_planning(
    graph: str, words: tuple[str, ...], wanted: str
) -> None:
    """More than there is, nothing, less than nothing, and no number."""
    told = run(graph, f"image={PICTURE}", *words)
    wanted += " or null" if graph == "visionzip" and wanted.endswith("int 1..") else ""
    assert (told.code, told.message, told.out) == (2, wanted, "")


def test_more_slots_than_pictures() -> None:
    """A question that writes `<image>` twice about one picture, found while planning."""
    told = run("visionzip", f"image={PICTURE}", "question=<image> <image> ?")
    assert (told.code, told.out) == (2, "")
    assert told.err == [
        "error: place_tokens: the prompt has 2 <image>, but 1 picture on 1 wire came; give every picture one "
        "<image>, or every wire one slot (render_chat: question, images, media)",
        *planned_at("base/llava15.yaml", "placed", "place_tokens", "prompt"),
    ]


def test_no_slot_for_the_picture() -> None:
    """A prompt that was told to have no slot, found while planning."""
    told = run("visionzip", f"image={PICTURE}", "--set", "prompt.images=0")
    assert (told.code, told.out) == (2, "")
    assert told.err == [
        "error: place_tokens: the prompt has no <image>, but 1 wire of visual tokens came; give every "
        "picture one <image>, or every wire one slot (render_chat: question, images, media)",
        *planned_at("base/llava15.yaml", "placed", "place_tokens", "prompt"),
    ]


BUDGET = ("keep=54", "targets=10")


def test_a_context_longer_than_the_models() -> None:
    """200 frames of 64 tokens do not fit into 4096 places: said before a frame is decoded."""
    repeating = ("--set", "frames.short=repeat")  # as many frames as asked for, however short the clip is
    told = run("visionzip_video", f"video={CLIP}", "count=200", *repeating, *BUDGET)
    assert told.code == 2
    assert told.message == (
        "error: place_tokens: the prompt has 12800 visual tokens and the text, the limit is 4096; keep fewer "
        "visual tokens, use fewer frames or tiles, or set truncate: true"
    )


def test_a_context_that_the_text_overflows() -> None:
    """What only the tokenised text decides is said when the prompt is put together."""
    told = run("visionzip_video", f"video={CLIP}", "count=63", "question=" + "why? " * 40, *BUDGET)
    assert told.code == 1
    assert re.fullmatch(
        r"error: place_tokens: the prompt has \d+ rows \(4032 visual tokens, \d+ of text\), the limit is "
        r"4096; keep fewer visual tokens, use fewer frames or tiles, or set truncate: true",
        told.message,
    )


# -- checkpoints ---------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The bundled checkpoint, to be damaged."""
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def shard(folder: Path, **moved: str) -> None:
    """The single file as a shard with an index; `moved`: other places for tensors."""
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    places = dict.fromkeys(load_file(folder / "one.safetensors"), "one.safetensors")
    index = {"weight_map": places | {"lm_head.weight": moved["head"]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def change(folder: Path, how: str) -> None:
    weights = load_file(folder / "model.safetensors")
    if how == "extra":
        weights["model.evil.weight"] = torch.zeros(2)
    elif how == "missing":
        del weights["lm_head.weight"]
    elif how == "int8":
        weights["lm_head.weight"] = weights["lm_head.weight"].to(torch.int8)
    else:
        weights["lm_head.weight"] = weights["lm_head.weight"][:-1].clone()
    save_file(weights, folder / "model.safetensors")


def configure(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


INDEX = "{0}/model.safetensors.index.json"
REFUSED = " and is refused; a shard lies in the checkpoint's own folder"
UNLIKE = "{0}: the weights are not what the configuration says:\n  "
TOGETHER = "\nCheck that config.json and the weight files belong together."
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (
        lambda d: shard(d, head="two.safetensors"),
        INDEX + ": 1 of 2 shards missing: two.safetensors; download them again",
    ),
    "upwards": (
        lambda d: shard(d, head="../../secret.safetensors"),
        INDEX + ": points to '../../secret.safetensors'," + REFUSED,
    ),
    "absolute": (
        lambda d: shard(d, head="/etc/passwd"),
        INDEX + ": points to '/etc/passwd'," + REFUSED,
    ),
    "extra tensor": (
        lambda d: change(d, "extra"),
        UNLIKE + "1 tensor of the language model unknown: model.evil.weight [2]" + TOGETHER,
    ),
    "missing tensor": (
        lambda d: change(d, "missing"),
        UNLIKE + "1 tensor of the language model missing: lm_head.weight [734, 64]" + TOGETHER,
    ),
    "wrong shape": (
        lambda d: change(d, "shape"),
        UNLIKE + "wrong shapes in the language model: lm_head.weight [733, 64], wanted [734, 64]" + TOGETHER,
    ),
    "pickle": (
        pickled,
        "{0}: only pickled weights (pytorch_model.bin), and reading a pickle can run code; write safetensors "
        "once with\n  tokenloom convert {0} model-safetensors",
    ),
    "cut off": (
        cut,
        "{0}/model.safetensors: truncated, 533375 bytes of weights where its header tells of 533376; "
        "download it again",
    ),
    "garbage": (
        lambda d: (d / "model.safetensors").write_bytes(b"\xff" * 100),
        "{0}/model.safetensors: not a sound safetensors file, it has a header of 18446744073709551615 bytes "
        "in a file of 100; download it again",
    ),
    "no configuration": (
        lambda d: (d / "config.json").unlink(),
        "{0}: no config.json there; wanted the folder of a checkpoint",
    ),
    "whole numbers": (
        lambda d: change(d, "int8"),
        UNLIKE + "wrong dtypes in the language model: lm_head.weight I8, wanted floats" + TOGETHER,
    ),
    "too many layers": (
        lambda d: configure(d, num_hidden_layers=10**9),
        "{0}/config.json: num_hidden_layers is 1000000000, wanted 10000 at most",
    ),
    "no width": (
        lambda d: configure(d, hidden_size=0),
        "{0}/config.json: hidden_size is 0, wanted a positive whole number",
    ),
    "deep configuration": (
        lambda d: (d / "config.json").write_text("[" * 100_000),
        "{0}/config.json: not readable as JSON (maximum recursion depth exceeded while decoding a JSON array "
        "from a unicode string)",
    ),
    "broken configuration": (
        lambda d: (d / "config.json").write_text("{"),
        "{0}/config.json: not readable as JSON (Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1))",
    ),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_checkpoint_is_refused_before_weights_are_read(damage: str, copy: Path) -> None:
    """The file and what is wrong with it, then the node; exit code 2, and nothing was loaded or cached."""
    make, wanted = DAMAGES[damage]
    make(copy)
    told = run("visionzip", f"image={PICTURE}", f"checkpoint={copy}")
    text = "error: " + wanted.format(copy)
    assert (told.code, told.out) == (2, "")
    assert "\n".join(told.err[:-3]) == text
    given = f"checkpoint = {short(copy)}"
    assert told.err[-3:] == planned_at("base/llava15.yaml", "model", "load_model", "checkpoint", given)
    assert not (copy.parent / "cache").exists()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"hidden_act": "nope"}, "KeyError: 'nope'"),
        ({"rope_theta": "x"}, "TypeError: unsupported operand type(s) for ** or pow(): 'str' and 'Tensor'"),
    ],
)
def test_a_configuration_that_transformers_refuses(
    values: dict[str, object], reason: str, copy: Path
) -> None:
    """The file, and what the foreign class said."""
    configure(copy, **values)
    told = run("visionzip", f"image={PICTURE}", f"checkpoint={copy}")
    assert told.code == 1
    assert told.message == (
        f"error: {copy}/config.json: transformers cannot make the model that it describes ({reason}); check "
        f"its values"
    )


def test_a_vocabulary_smaller_than_the_tokenizers(copy: Path) -> None:
    """The token that the model has no row for is named."""
    weights = load_file(copy / "model.safetensors")
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        weights[name] = weights[name][:400].clone()
    save_file(weights, copy / "model.safetensors")
    configure(copy, vocab_size=400)
    told = run("visionzip", f"image={PICTURE}", f"checkpoint={copy}")
    assert told.code == 1
    assert told.message == (
        "error: place_tokens.prompt: token id 677 is outside the model's vocabulary of 400; use the "
        "tokenizer of the same checkpoint"
    )


def test_a_checkpoint_without_tokenizer_says_what_to_add(copy: Path) -> None:
    """Planning is fine; the first node that needs text says which file is missing."""
    (copy / "tokenizer.json").unlink()
    told = run("visionzip", f"image={PICTURE}", f"checkpoint={copy}")
    assert told.code == 1
    assert told.message == (
        "error: the checkpoint has no tokenizer files (tokenizer.json), and text is asked of it; add them, "
        "or build the prompt from token ids with Prompt.of_ids and leave chat unwired in generate"
    )


# -- the cache folder ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("always")
def test_a_cache_folder_that_takes_nothing_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes all the same, with exit code 0."""
    wanted = run("visionzip", f"image={PICTURE}", "--no-cache").out
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "file" / "cache"))
    told = run("visionzip", f"image={PICTURE}")
    assert (told.code, told.out) == (0, wanted)
    assert told.err == [
        f"warning: cache folder {tmp_path / 'file' / 'cache'} cannot be written: Not a directory; the run "
        f"goes on without it"
    ]


@pytest.mark.filterwarnings("always")
def test_swapped_cache_files_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cached value under the name of another: warnings, and the right answer."""
    wanted = run("visionzip", f"image={PICTURE}").out
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "cache", moved)
    files = sorted(moved.rglob("*.safetensors"))
    data = [file.read_bytes() for file in files]
    for file, other in zip(files, data[1:] + data[:1], strict=True):
        file.write_bytes(other)
    monkeypatch.setenv("TOKENLOOM_CACHE", str(moved))
    told = run("visionzip", f"image={PICTURE}")
    assert (told.code, told.out) == (0, wanted)
    assert told.err
    assert all(
        line.startswith("warning: cache file ") and "it holds the value of key " in line for line in told.err
    )


# -- stopping ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_run_that_is_stopped_leaves_nothing_half_written(how: str, tmp_path: Path) -> None:
    """Stopped while it writes its cache: the next run answers as if nothing had been."""
    words = [
        "run",
        "visionzip_video",
        f"video={CLIP}",
        "count=4",
        "max_new_tokens=400",
        "-q",
        "checkpoint=tiny-random",
    ]
    wanted = CliRunner().invoke(app, [*words, "--no-cache"])
    assert wanted.exit_code == 0
    with subprocess.Popen(
        [sys.executable, "-c", TAKES_SIGINT + COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "cache").rglob("*.tmp")) + list(
            (tmp_path / "cache").rglob("*.safetensors")
        ):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(getattr(signal, how))
        out, err = process.communicate(timeout=60)
    assert out == ""
    assert "Traceback" not in err
    assert process.returncode == (130 if how == "SIGINT" else -getattr(signal, how))
    again = CliRunner().invoke(app, words)
    assert (again.exit_code, again.stdout, again.stderr) == (0, wanted.stdout, "")


def test_two_runs_share_one_cache(tmp_path: Path) -> None:
    """Two processes that start at once on an empty cache give the same answer and no warning."""
    words = ["run", "visionzip", f"image={PICTURE}", "max_new_tokens=2", "-q", "checkpoint=tiny-random"]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    told = [(*process.communicate(timeout=120), process.returncode) for process in both]
    assert told[0] == told[1]
    assert told[0][1:] == (b"", 0)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_readable_by_its_owner_alone_is_not_needed(tmp_path: Path) -> None:
    """The bundled weights can be read by everyone, wherever they were installed."""
    if os.name == "posix":
        assert all(file.stat().st_mode & 0o044 for file in TINY.rglob("*.safetensors"))
