import numpy as np
import pytest

from vjepa_mlflow.video.sampling import Sampling, choose_frames, clip_positions


@pytest.mark.parametrize(
    ("video_frames", "position", "start", "stride"),
    [
        (16, 0.5, 0, 1),
        (30, 0.5, 7, 1),
        (31, 0.5, 0, 2),
        (61, 0.5, 0, 4),
        (161, 0.0, 0, 4),
        (161, 0.5, 50, 4),
        (161, 1.0, 100, 4),
    ],
)
def test_by_stride_a_clip_lies_within_its_video_whatever_the_times(
    video_frames: int, position: float, start: int, stride: int
) -> None:
    seconds = np.sort(np.random.default_rng(0).uniform(size=video_frames))
    chosen = choose_frames(seconds, Sampling(16, stride=4), position)
    assert chosen.tolist() == list(range(start, start + 16 * stride, stride))


@pytest.mark.parametrize(("video_frames", "expected"), [(1, [0] * 16), (3, [0, 1] + [2] * 14)])
def test_a_video_of_few_frames_ends_in_copies_of_its_last(video_frames: int, expected: list[int]) -> None:
    assert choose_frames(np.arange(video_frames) / 25, Sampling(16), 0.5).tolist() == expected


@pytest.mark.parametrize("position", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_by_time_a_constant_rate_is_that_of_its_stride(position: float) -> None:
    for rate in (24, 25, 30, 30000 / 1001, 50, 60):
        exact = np.arange(300) / rate
        for stride in (1, 2, 4):
            by_index = choose_frames(exact, Sampling(16, stride), position)
            for seconds in (exact, np.round(exact, 3), np.round(exact * 90000) / 90000, np.floor(exact * 600) / 600):
                by_time = choose_frames(seconds, Sampling(16, frames_per_second=rate / stride), position)
                assert by_time.tolist() == by_index.tolist(), (rate, stride)


def test_by_time_a_clip_is_what_is_shown_at_equal_distances() -> None:
    seconds = np.array([0, 0.1, 0.2, 1.0, 1.1, 1.2, 1.3, 2.0])
    chosen = choose_frames(seconds, Sampling(5, frames_per_second=2.5), 0.0)
    assert chosen.tolist() == [0, 2, 2, 5, 6]  # at 0, 0.4, 0.8, 1.2 and 1.6 s


def test_by_time_two_copies_with_other_rates_show_the_same_moments() -> None:
    for position in (0.0, 0.5, 1.0):
        slow, fast = (
            choose_frames(np.arange(rate * 10) / rate, Sampling(16, frames_per_second=5), position) / rate
            for rate in (15, 30)
        )
        assert np.abs(slow - fast).max() <= 1 / 15


def test_by_time_a_short_video_is_covered_from_its_first_frame_to_its_last() -> None:
    chosen = choose_frames(np.arange(20) / 10, Sampling(16, frames_per_second=4), 0.7)
    assert (chosen[0], chosen[-1]) == (0, 19)
    assert set(np.diff(chosen)) == {1, 2}
    assert choose_frames(np.zeros(1), Sampling(4, frames_per_second=4), 0.7).tolist() == [0] * 4


@pytest.mark.parametrize(("num_clips", "expected"), [(1, [0.5]), (2, [0.25, 0.75]), (4, [0.125, 0.375, 0.625, 0.875])])
def test_clips_are_spread_evenly(num_clips: int, expected: list[float]) -> None:
    assert clip_positions(num_clips) == expected


def test_how_many_clips_fill_a_video() -> None:
    assert Sampling(16, 4).clips_in(10.0, 32.0) == 5
    assert Sampling(16, frames_per_second=4.0).clips_in(10.0, 32.0) == 2.5
