import pytest

from vjepa_mlflow.video.sampling import Stretch, choose_stretch, clip_positions


@pytest.mark.parametrize(
    ("video_frames", "position", "expected"),
    [
        (1, 0.5, Stretch(start=0, stride=4, count=1)),
        (3, 0.5, Stretch(start=0, stride=1, count=3)),
        (16, 0.5, Stretch(start=0, stride=1, count=16)),
        (30, 0.5, Stretch(start=7, stride=1, count=16)),
        (31, 0.5, Stretch(start=0, stride=2, count=16)),
        (61, 0.5, Stretch(start=0, stride=4, count=16)),
        (161, 0.0, Stretch(start=0, stride=4, count=16)),
        (161, 0.5, Stretch(start=50, stride=4, count=16)),
        (161, 1.0, Stretch(start=100, stride=4, count=16)),
    ],
)
def test_a_clip_lies_within_its_video(video_frames: int, position: float, expected: Stretch) -> None:
    stretch = choose_stretch(video_frames, num_frames=16, stride=4, position=position)
    assert stretch == expected
    assert stretch.start + (stretch.count - 1) * stretch.stride < video_frames


@pytest.mark.parametrize(("num_clips", "expected"), [(1, [0.5]), (2, [0.25, 0.75]), (4, [0.125, 0.375, 0.625, 0.875])])
def test_clips_are_spread_evenly(num_clips: int, expected: list[float]) -> None:
    assert clip_positions(num_clips) == expected
