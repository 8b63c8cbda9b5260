import os
from pathlib import Path

import numpy as np
import torch
from helpers import write_video

from vjepa_mlflow.video import ClipReader, ClipRequest, Sampling, VideoError, inspect_videos, read_clip


def test_clips_are_those_that_read_clip_reads_in_the_order_asked_for(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{number}.mp4", frames=80 + number) for number in range(3)]
    requests = [ClipRequest(path, position) for position in (0.0, 0.7) for path in paths]
    reader = ClipReader(Sampling(16, 4))
    for _ in range(2):
        for request, frames in zip(requests, reader.read(requests), strict=True):
            expected = read_clip(request.path, num_frames=16, stride=4, position=request.position)
            assert isinstance(frames, torch.Tensor)
            assert np.array_equal(frames.numpy(), expected)


def test_what_is_wrong_with_a_file_is_returned_and_the_rest_is_read(tmp_path: Path) -> None:
    good, bad = write_video(tmp_path / "good.mp4"), tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    reader = ClipReader(Sampling(16, 4))
    first, second, third = reader.read([ClipRequest(path, 0.5) for path in (good, bad, good)])
    assert isinstance(second, VideoError)
    assert "cannot be decoded" in str(second)
    assert isinstance(first, torch.Tensor)
    assert isinstance(third, torch.Tensor)
    assert torch.equal(first, third)


def test_a_file_that_has_another_version_must_have_the_same_content(tmp_path: Path) -> None:
    kept, other = write_video(tmp_path / "a.mp4", frames=80), write_video(tmp_path / "b.mp4", frames=90)
    (found,) = inspect_videos([kept], Sampling(16, 4))
    assert found.finding is not None
    request = ClipRequest(kept, 0.5, found.version, found.finding.digest)

    def read() -> object:
        (frames,) = ClipReader(Sampling(16, 4)).read([request])
        return frames

    assert isinstance(read(), torch.Tensor)
    os.utime(kept, (1, 1))
    assert isinstance(read(), torch.Tensor)
    other.replace(kept)
    changed = read()
    assert isinstance(changed, VideoError)
    assert str(changed) == "it has changed since it was checked"
