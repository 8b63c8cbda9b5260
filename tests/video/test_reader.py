import os
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import allocate, read_clips, read_requests, whole_clips, write_video

from vjepa_mlflow.runtime.streams import Stream
from vjepa_mlflow.video import ClipReader, ClipsRequest, Sampling, VideoError, inspect_videos, read_clip
from vjepa_mlflow.video.one_pass import Declined, Part, Pass, Pictures
from vjepa_mlflow.video.opening import Source


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


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_where_no_gpu_decodes_software_does_and_it_is_said(tmp_path: Path) -> None:
    path = write_video(tmp_path / "large.mp4", size=(640, 480))
    parts = list(Pass(Source(path), Sampling(4, 4), allocate, as_planes=True, gpu=0).read([0.0, 0.9]))
    assert [part.reason != "" for part in parts if isinstance(part, Declined)] == [True]
    assert np.array_equal(whole_clips(parts)[0.9], read_clip(path, num_frames=4, stride=4, position=0.9))
    small = write_video(tmp_path / "small.mp4")
    parts = list(Pass(Source(small), Sampling(4, 4), allocate, as_planes=True, gpu=0).read([0.5]))
    assert not any(isinstance(part, Declined) for part in parts)


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_a_gpus_frames_are_those_that_read_clip_reads(tmp_path: Path, codec: str) -> None:
    path, positions = write_video(tmp_path / "large.mp4", frames=60, size=(720, 560), codec=codec), (0.0, 0.4, 1.0)
    reader = ClipReader(Sampling(8, 4), as_planes=True, gpu=0)

    def finish(_: ClipsRequest, part: Part) -> Part:
        is_read = isinstance(part, Pictures)
        return part._replace(values=part.values.copy()) if is_read else part  # type: ignore[call-arg]

    stream = Stream([reader.work], [ClipsRequest(path, positions)], finish=finish, size=len)
    parts = list(iter(stream.take, None))
    stream.close()
    assert not any(isinstance(part, Declined) for part in parts)
    assert all(part.interleaved for part in parts if isinstance(part, Pictures))
    for position, clip in whole_clips(parts).items():
        assert np.array_equal(clip, read_clip(path, num_frames=8, stride=4, position=position))


@pytest.mark.parametrize("interlaced", [0, 1])
def test_fields_are_converted_apart_as_swscale_does(tmp_path: Path, interlaced: int) -> None:
    path, random = tmp_path / "fields.mp4", np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        options = {"x264-params": f"interlaced={interlaced}:tff={interlaced}"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(8):
            image = random.integers(0, 256, (8, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    parts = list(Pass(Source(path), Sampling(4, 2), allocate, as_planes=True).read([0.0]))
    assert [part.colours is None for part in parts if isinstance(part, Pictures)] == [bool(interlaced)]
    assert np.array_equal(whole_clips(parts)[0.0], read_clip(path, num_frames=4, stride=2, position=0.0))


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
