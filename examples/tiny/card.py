"""Write the model card of a bundled checkpoint from what is committed beside its weights.

    python examples/tiny/card.py FOLDER...

accuracy.json comes from `tokenloom bench accuracy --methods full`, on the test split and on `pairs`;
training.json from `tokenloom train`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Plain = Mapping[str, Any]

WHAT = {
    "tiny-llava": """LLaVA in miniature: a CLIP tower (6 layers of 128, 8 x 8 patches of a 112-pixel picture,
        [CLS]), LLaVA's MLP, a Llama (6 layers of 128), in llava-hf's layout; stock transformers reads it too.
        Pictures and clips: 64 tokens of every frame, one after the other.""",
    "tiny-tokenpacker": """TokenPacker in miniature: the same tower as tiny-llava, a TokenPacker of scale 2
        whose keys and values come from layers 1 to 4, a Llama (6 layers of 128), in the released layout. 16
        tokens of every picture or frame.""",
    "tiny-pvc": """PVC in miniature, with the modules that tokenloom proposes (docs/methods/pvc.md): an
        InternViT (5 layers of 128, the last 2 with attention between frames), a compressor of 2 x 2
        patches, a Llama (6 layers of 128). A picture is a static video of four copies; 16 tokens of every
        frame.""",
}
BEGUN = {
    "tiny-tokenpacker": "The tower starts from tiny-llava's first stage, everything else from random numbers."
}


def card(name: str, accuracy: Plain, training: Plain) -> str:
    """README.md of the checkpoint of that name."""
    return "\n".join([*_head(name), *_accuracy(accuracy), *_limits(), *_training(training), ""])


def _head(name: str) -> Iterator[str]:
    yield from (
        "---", "license: apache-2.0", "pipeline_tag: image-text-to-text", "library_name: tokenloom", "---",
        "", f"# {name}", "", " ".join(WHAT[name].split()), "",
        "Trained from random numbers on nothing but *coloured shapes*, pictures and clips that tokenloom "
        "draws (docs/shapes.md). It shows what visual token compression does to a model that works; it is of "
        "no use for photographs.", "",
    )  # fmt: skip
    if name in BEGUN:
        yield from (BEGUN[name], "")


def _accuracy(accuracy: Plain) -> Iterator[str]:
    yield from (
        "## Accuracy",
        "",
        "Every visual token, greedy answers, exact match; 95 % intervals over scenes.",
        "",
    )
    yield "| | questions | right, % | | commonest answer, % |"
    yield "|---|---|---|---|---|"
    for split, summary in accuracy.items():
        for medium, found in summary["media"].items():
            shares = next(s for s in found["settings"] if s["id"] == "full")["shares"]
            kinds = ("overall",) if split == "pairs" else (*(k for k in shares if k != "overall"), "overall")
            for kind in kinds:
                yield _row(f"{medium}, {_named(kind, split)}", shares[kind])
    yield ""


def _named(kind: str, split: str) -> str:
    said = {"moving": "motion of what moves", "overall": "all"}.get(kind, kind)
    return "held-out pairs of colour and shape, all" if split == "pairs" else said


def _row(name: str, share: Plain) -> str:
    low, high = (100 * share[end] for end in ("low", "high"))
    return (
        f"| {name} | {share['asked']} | {100 * share['accuracy']:.1f} | {low:.1f} to {high:.1f} "
        f"| {100 * share['majority']:.1f} |"
    )


def _limits() -> Iterator[str]:
    yield from (
        "## What it cannot do", "",
        "- Anything but these pictures: plain colours and five shapes on a calm background, 112 x 112 pixels "
        "(others are resized).",
        "- Other questions than the benchmark's; any text can be asked, and gets one of its answers.",
        "- Count above 4, or name two objects at once.",
        "- Pairs of colour and shape that training left out are answered worse (see the table).",
        "- Clips of more than 16 frames; of 16 it saw few.",
        "",
    )  # fmt: skip


def _training(training: Plain) -> Iterator[str]:
    stages = training["stages"]
    minutes = sum(stage["seconds"] for stage in stages) / 60
    commits = [*training.get("earlier_commits", []), training["commit"]]
    yield from ("## Training", "")
    yield (
        f"`tokenloom train` with the recipe in `training.json` (hash {training['hash']}), seed "
        f"{training['seed']}, {minutes:.0f} minutes on {training['device']} with "
        f"{training['threads']} thread, torch {training['torch']}, transformers {training['transformers']}, "
        f"commit {', '.join(str(c)[:9] for c in commits)}. Curves and the accuracy on the validation split "
        "after each stage stand in `training.json`."
    )


def main(folders: list[str]) -> None:
    """The card of every folder."""
    for folder in map(Path, folders):
        accuracy, training = (
            json.loads((folder / f"{n}.json").read_text()) for n in ("accuracy", "training")
        )
        (folder / "README.md").write_text(card(folder.name, accuracy, training), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
