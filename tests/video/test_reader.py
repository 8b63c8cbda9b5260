import os
from pathlib import Path

import numpy as np
from helpers import read_clips, read_requests, write_video

from vjepa_mlflow.video import ClipsRequest, Sampling, VideoError, inspect_videos, read_clip


def test_clips_are_those_that_read_clip_reads(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{number}.mp4", frames=80 + number) for number in range(3)]
    positions = (0.0, 0.7, 0.3)
    found = read_clips(paths, Sampling(16, 4), *positions)
    expected = [read_clip(path, num_frames=16, stride=4, position=position) for path in paths for position in positions]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_what_is_wrong_with_a_file_is_returned_and_the_rest_is_read(tmp_path: Path) -> None:
    good, bad = write_video(tmp_path / "good.mp4"), tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    first, *faults, third = read_clips([good, bad, good], Sampling(16, 4), 0.5, 0.6)[1:-1]
    assert all(isinstance(fault, VideoError) and "cannot be decoded" in str(fault) for fault in faults)
    assert isinstance(first, np.ndarray)
    assert isinstance(third, np.ndarray)


def test_a_file_that_has_another_version_must_have_the_same_content(tmp_path: Path) -> None:
    kept, other = write_video(tmp_path / "a.mp4", frames=80), write_video(tmp_path / "b.mp4", frames=90)
    (found,) = inspect_videos([kept], Sampling(16, 4))
    assert found.finding is not None
    request = ClipsRequest(kept, (0.2, 0.5), found.version, found.finding.digest)

    def read() -> list[np.ndarray | VideoError]:
        return read_requests([request], Sampling(16, 4))

    assert all(isinstance(clip, np.ndarray) for clip in read())
    os.utime(kept, (1, 1))
    assert all(isinstance(clip, np.ndarray) for clip in read())
    other.replace(kept)
    assert list(map(str, read())) == ["it has changed since it was checked"] * 2
