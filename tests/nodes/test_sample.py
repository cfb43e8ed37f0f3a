"""sample_frames: which frames each rule takes, at which times, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import clips
from tokenloom.nodes import sample
from tokenloom.nodes.media import load_video
from tokenloom.nodes.sample import Rule, sample_frames
from tokenloom.runtime.errors import MediaError, MediaNotice
from tokenloom.runtime.values import Frames, Video
from tokenloom.runtime.video import rules


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """40 numbered frames at 10 per second."""
    return load_video(path=clips.write_clip(tmp_path_factory.mktemp("v") / "a.mp4", rate=10))


@pytest.mark.parametrize("frames", [5, 10**12])
def test_more_frames_than_memory(video: Video, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels that would fill the memory are refused before any is decoded."""
    monkeypatch.setattr(sample, "machine_bytes", lambda: 80_000)
    with pytest.raises(MediaError) as error:
        sample_frames(video, frames=frames)
    assert str(error.value) == (
        f"sample_frames: {frames} frames of 64x48 are {frames * 64 * 48 * 3 / 1e9:.1f} GB of pixels, wanted "
        f"at most 0.0 GB (half of this machine's memory); take fewer frames"
    )
    assert len(sample_frames(video, frames=4)) == 4


def shown(frames: Frames) -> list[int]:
    """The numbers that the frames show."""
    return clips.numbers_of([p.numpy() for p in frames.pictures])


@pytest.mark.parametrize(
    ("rule", "want"),
    [
        ("uniform", [2, 7, 12, 17, 22, 27, 32, 37]),
        ("linspace", [0, 5, 11, 16, 22, 27, 33, 39]),
        ("internvl", [2, 7, 12, 17, 22, 26, 31, 36]),
        ("pllava", [2, 7, 12, 17, 22, 26, 31, 36]),
        ("pllava_demo", [2, 7, 12, 17, 22, 26, 31, 36]),
    ],
)
def test_each_rule_takes_its_frames(rule: Rule, want: list[int], video: Video) -> None:
    """Eight frames of forty, and their true times."""
    frames = sample_frames(video, frames=8, rule=rule)
    assert shown(frames) == want
    np.testing.assert_allclose(frames.time, np.array(want) / 10, atol=1e-4)


def test_fps_takes_the_frame_on_show(video: Video) -> None:
    """Two per second of a ten-per-second clip, and never more than `frames`."""
    assert shown(sample_frames(video, frames=99, rule="fps", fps=2)) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert shown(sample_frames(video, frames=4, rule="fps", fps=2)) == [5, 15, 25, 35]
    assert len(sample_frames(video, frames=200, rule="fps", fps=30)) == 118  # repeats, as a screen would


def test_variable_rate_is_sampled_by_time(tmp_path: Path) -> None:
    """One per second of a clip that lingers on frame 2 takes that frame again."""
    path = clips.write_clip(tmp_path / "a.mp4", 6, milliseconds=[0, 500, 1000, 3500, 3600, 4100], b_frames=0)
    assert shown(sample_frames(load_video(path=path), rule="fps", fps=1)) == [0, 2, 2, 2, 4]


def test_bounds_in_seconds(video: Video) -> None:
    """From second 1 up to second 3: frames 10 to 29."""
    assert shown(sample_frames(video, frames=4, start=1, end=3)) == [12, 17, 22, 27]
    assert shown(sample_frames(video, frames=3, start=1, end=3, rule="linspace")) == [10, 19, 29]
    assert shown(sample_frames(video, frames=4, start=1, end=3, rule="internvl")) == [12, 17, 22, 27]
    with pytest.warns(MediaNotice):
        assert shown(sample_frames(video, frames=2, start=3.9)) == [39, 39]


# recorded from the released codes: InternVL / PVC utils/preprocess.py and PLLaVA's EvalDataset.get_index
RELEASED = [
    (8, 10.0, 36, 0, None, [2, 6, 11, 16, 20, 24, 29, 34]),
    (5, 7.5, 29, 0, (0.7, 3.1), [6, 10, 13, 17, 20]),
    (4, 30.0, 0, 0, None, [0, 0, 0, 0]),
    (8, 30.0, 1, 0, None, [0, 0, 0, 0, 0, 1, 1, 1]),
    (16, 24.0, 10, 0, None, [0, 1, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 9]),
    (8, 29.97, 1000, 0, (2.5, 7.25), [83, 101, 119, 136, 154, 172, 189, 207]),
    (16, 3, 180, 1, (1.2, 40.0), [7, 14, 21, 29, 36, 43, 51, 58, 65, 72, 79, 87, 94, 101, 109, 116]),
]


@pytest.mark.parametrize(("n", "fps", "last", "first", "bound", "want"), RELEASED)
def test_index_rule_is_the_released_one(
    n: int, fps: float, last: int, first: int, bound: tuple[float, float] | None, want: list[int]
) -> None:
    """Half-to-even rounding twice, then truncation; the last frame hardly ever; short clips repeat."""
    start, end = bound or (None, None)
    assert rules.segment_middles(n, fps=fps, last=last, first=first, start=start, end=end) == want


@pytest.mark.parametrize(
    ("count", "n", "want"),
    [
        (10, 16, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7, 7, 8, 8]),
        (33, 8, [2, 6, 10, 14, 18, 22, 26, 30]),
    ],
)
def test_demo_rule_is_the_released_one(count: int, n: int, want: list[int]) -> None:
    """PLLaVA's demo starts from a truncated half step."""
    assert rules.segment_starts(n, count=count) == want


def test_folder_is_numbered_from_one_for_pllava(tmp_path: Path) -> None:
    """The released rule counts files 00001.jpg .. N.jpg; the same frame 0-based here."""
    video = load_video(path=clips.write_folder(tmp_path / "f", 60))
    files = rules.segment_middles(16, fps=3, last=60, first=1)
    assert files[:5] == [2, 6, 9, 13, 17]
    assert shown(sample_frames(video, rule="pllava")) == [i - 1 for i in files]


@pytest.mark.parametrize(
    ("rule", "want"),
    [("uniform", [0, 0, 0, 1, 1, 2, 2, 2]), ("internvl", [0, 0, 0, 1, 1, 1, 2, 2])],
)
def test_short_clip_repeats_with_a_notice(rule: Rule, want: list[int], tmp_path: Path) -> None:
    """Eight frames of three: each rule as released, and one warning that says so."""
    video = load_video(path=clips.write_clip(tmp_path / "a.mp4", 3))
    with pytest.warns(MediaNotice) as caught:
        assert shown(sample_frames(video, frames=8, rule=rule)) == want
    assert [str(one.message) for one in caught] == [
        "sample_frames: 8 frames of a.mp4, the clip has 3; some are repeated, as by the released codes "
        "(short: fewer takes every frame once)"
    ]
    assert shown(sample_frames(video, frames=3, rule=rule))  # as many as there are: no notice


def test_short_piece_of_a_clip_repeats_with_a_notice(video: Video) -> None:
    """Between seconds 1 and 1.5 lie five frames."""
    with pytest.warns(MediaNotice) as caught:
        sample_frames(video, frames=6, rule="internvl", start=1, end=1.5)
    assert [str(one.message) for one in caught] == [
        "sample_frames: 6 frames of a.mp4, between these bounds the clip has 5; some are repeated, as by the "
        "released codes (short: fewer takes every frame once)"
    ]


def test_short_clip_gives_fewer(tmp_path: Path) -> None:
    """Each frame once, and nothing to tell."""
    video = load_video(path=clips.write_clip(tmp_path / "a.mp4", 3))
    assert shown(sample_frames(video, frames=8, short="fewer")) == [0, 1, 2]


def test_last_frame_is_never_taken_by_internvl(tmp_path: Path) -> None:
    """As many segments as frames: the last frame is left out and one is doubled, as released."""
    video = load_video(path=clips.write_clip(tmp_path / "a.mp4", 24, rate=10))
    index = shown(sample_frames(video, frames=24, rule="internvl"))
    assert len(index) == 24
    assert 23 not in index
    assert len(set(index)) == 23


@pytest.mark.parametrize("width", [16, 48, 96])
def test_narrow_frames_are_read_right(width: int, tmp_path: Path) -> None:
    """decord reads the row padding of these as channels: refused by name, avoided by `auto`."""
    file = clips.write_clip(tmp_path / "a.mp4", 6, (width, 48))
    with pytest.raises(MediaError, match=r"a\.mp4: decord gave \d+ channels; set backend: pyav"):
        load_video(path=file, backend="decord")
    clip = load_video(path=file)
    assert clip.backend.startswith("pyav")
    assert sample_frames(clip, frames=3, rule="internvl").sizes == ((width, 48),) * 3


def test_damaged_frames_are_an_error_or_clamped(tmp_path: Path) -> None:
    """strict names what is lost; clamp repeats the last frame that can be read, with that frame's time."""
    whole = clips.write_clip(tmp_path / "a.mp4", movflags="faststart", rate=10)
    video = load_video(path=clips.truncated(whole, tmp_path / "b.mp4", 0.7))
    last = video.frames - 1
    with pytest.raises(MediaError) as caught:
        sample_frames(video, frames=3, rule="linspace")
    assert str(caught.value) == (
        f"sample_frames: {video.path}: 1 of 3 wanted frames cannot be decoded (the first is frame {last}), "
        "the file is damaged or cut off; mend the file, or set damaged: clamp to repeat the last frame that "
        "can be read"
    )
    frames = sample_frames(video, frames=3, rule="linspace", damaged="clamp")
    assert shown(frames) == [0, last // 2, last // 2]
    assert frames.time[1] == frames.time[2]


BAD = [
    ({"start": 9.0}, "sample_frames: start 9 s is after the clip's end (4.000 s); choose an earlier one"),
    ({"start": 3.0, "end": 1.0}, "sample_frames: start 3 s is not before end 1 s; swap or widen them"),
    ({"end": 0.0}, "sample_frames: end 0 s is before the clip begins; choose a later one"),
    ({"rule": "fps"}, "sample_frames: rule fps needs a rate; set fps, e.g. fps: 1"),
]


@pytest.mark.parametrize(("widgets", "message"), BAD)
@pytest.mark.parametrize("rule", ["uniform", "internvl"])
def test_bounds_outside_the_clip(widgets: dict[str, object], message: str, rule: str, video: Video) -> None:
    """Impossible bounds are refused before anything is decoded, by every rule alike."""
    with pytest.raises(MediaError) as caught:
        sample_frames(video, **{"rule": rule, **widgets})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_same_backend_as_the_handle(video: Video, tmp_path: Path) -> None:
    """Frames come from the back end that the handle names, whichever it is."""
    other = load_video(path=Path(video.path), backend="pyav")
    for rule in ("uniform", "internvl"):
        assert shown(sample_frames(other, rule=rule)) == shown(sample_frames(video, rule=rule))


@given(st.integers(1, 300), st.integers(1, 70), st.floats(0.1, 60), st.data())
def test_rules_stay_inside_and_in_order(count: int, n: int, fps: float, data: st.DataObject) -> None:
    """Whatever the clip, every rule gives n indices in 0..N-1 that never go back."""
    low = data.draw(st.integers(0, count - 1))
    picked = [
        rules.segment_middles(n, fps=fps, last=count - 1),
        rules.segment_starts(n, count=count),
        rules.centres(n, low, count - 1),
        rules.ends_included(n, low, count - 1),
    ]
    for index in picked:
        assert len(index) == n
        assert index == sorted(index)
        assert index[0] >= 0
        assert index[-1] < count
