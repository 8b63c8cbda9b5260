import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vjepa_mlflow.data import demo, draw_clip, list_samples
from vjepa_mlflow.video import read_clip, read_info


def test_the_demo_is_drawn_quickly_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    started = time.perf_counter()
    samples = list_samples("demo")
    seconds = time.perf_counter() - started
    assert seconds < 20
    assert Counter((sample.split, sample.label) for sample in samples) == {
        (split, motion): count for split, count in demo.CLIPS_PER_CLASS.items() for motion in demo.MOTIONS
    }
    assert len(demo.MOTIONS) >= 6
    assert [path.name for path in tmp_path.iterdir()] == [demo.folder().name]  # nothing half-written beside it


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert draw_clip("turn_clockwise", seed=5) == draw_clip("turn_clockwise", seed=5)
    assert draw_clip("turn_clockwise", seed=5) != draw_clip("turn_clockwise", seed=6)


def test_a_clip_is_a_real_video() -> None:
    video = draw_clip("up_clockwise", seed=0)
    assert read_info(video).num_frames == demo.FRAMES
    assert read_clip(video, num_frames=16, stride=4).shape == (16, demo.SIZE, demo.SIZE, 3)


def moved(frames: np.ndarray, axis: int) -> int:
    """The shift in pixels, along an axis, that maps the first frame's moving part best onto the second's."""
    first, second = (np.abs(frame.astype(int) - np.median(frames, axis=0)).sum(axis=-1) for frame in frames[:2])
    return min(range(-8, 9), key=lambda shift: np.abs(np.roll(first, shift, axis=axis) - second).sum())


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [("left_clockwise", 1, -1), ("right_clockwise", 1, 1), ("up_clockwise", 0, -1), ("down_clockwise", 0, 1)],
)
def test_slides_go_where_their_name_says(motion: str, axis: int, sign: int) -> None:
    shifts = [moved(read_clip(draw_clip(motion, seed=seed), num_frames=16, stride=2), axis) for seed in range(6)]
    assert sum(shift * sign > 0 for shift in shifts) >= 5


def test_clockwise_and_counterclockwise_are_each_other_backwards() -> None:
    forward = demo._draw_frames("turn_clockwise", np.random.default_rng(3))
    backward = demo._draw_frames("turn_counterclockwise", np.random.default_rng(3))
    assert np.array_equal(forward[0], backward[0])
    assert not np.array_equal(forward[5], backward[5])
