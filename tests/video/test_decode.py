from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import frame_number, write_video

from vjepa_mlflow.video import Sampling, VideoError, read_clip, seeking
from vjepa_mlflow.video.decode import sample_clip
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.timeline import read_timeline


def numbers_of(clip: np.ndarray) -> list[int]:
    return [frame_number(frame) for frame in clip]


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("h264.mp4", "libx264", "yuv420p"),
        ("ten_bit.mp4", "libx265", "yuv420p10le"),
        ("full_chroma.mkv", "libx264", "yuv444p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("grey.mkv", "ffv1", "gray"),
        ("mpeg2.ts", "mpeg2video", "yuv420p"),
    ],
)
def test_every_format_gives_the_frames_that_were_asked_for(
    tmp_path: Path, name: str, codec: str, pixel_format: str
) -> None:
    path = write_video(tmp_path / name, frames=64, codec=codec, pixel_format=pixel_format)
    clip = read_clip(path, num_frames=16, stride=4, position=0.0)
    assert clip.dtype == np.uint8
    assert clip.shape == (16, 48, 64, 3)
    assert numbers_of(clip) == list(range(0, 64, 4))


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (1, [0] * 16),
        (5, [0, 1, 2, 3, 4] + [4] * 11),
        (20, list(range(2, 18))),
        (40, list(range(4, 35, 2))),
    ],
)
def test_short_videos_shrink_the_stride_then_repeat_the_last_frame(
    tmp_path: Path, frames: int, expected: list[int]
) -> None:
    path = write_video(tmp_path / "short.mp4", frames=frames)
    assert numbers_of(read_clip(path, num_frames=16, stride=4)) == expected


@pytest.mark.parametrize("position", [0.0, 0.3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("name", ["long.mp4", "long.mkv"])
def test_seeking_finds_the_same_frames_as_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, position: float
) -> None:
    path = write_video(tmp_path / name, frames=900, key_frames=50)
    sought = read_clip(path, num_frames=16, stride=4, position=position)
    monkeypatch.setattr(seeking, "SEEK_OVER", 10**9)
    counted = read_clip(path, num_frames=16, stride=4, position=position)
    first, *_ = numbers_of(counted)
    assert numbers_of(sought) == numbers_of(counted) == list(range(first, first + 61, 4))


@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_packets_that_are_no_frames_of_their_own_do_not_count(tmp_path: Path, position: float) -> None:
    """As in broadcasts, where each of a frame's two fields may have a packet and a time."""
    source = Source(write_video(tmp_path / "a.mp4", frames=120))
    timeline = read_timeline(source)
    between = np.linspace(0, timeline.num_frames - 1, 2 * timeline.num_frames - 1)
    numbers = np.arange(timeline.num_frames)
    of_fields = replace(
        timeline,
        seconds=np.interp(between, numbers, timeline.seconds),
        stamps=np.interp(between, numbers, timeline.stamps).astype(int),
    )
    clip = sample_clip(source, Sampling(16, 4), position, of_fields)
    assert numbers_of(clip.frames) == numbers_of(read_clip(source.video, num_frames=16, position=position))


def test_content_decodes_like_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    assert np.array_equal(
        read_clip(path, num_frames=16, stride=4), read_clip(path.read_bytes(), num_frames=16, stride=4)
    )


def test_a_title_in_another_encoding_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "caf_"
        stream = container.add_stream("mpeg4", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in [*(av.VideoFrame(64, 48, "yuv420p") for _ in range(20)), None]:
            container.mux(stream.encode(frame))
    path.write_bytes(path.read_bytes().replace(b"caf_", b"caf\xe9"))
    assert read_clip(path, num_frames=16, stride=1).shape == (16, 48, 64, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "it is empty"), (b"hello" * 100, "cannot be decoded"), (None, "no such file")],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "secret-name.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=reason) as caught:
        read_clip(path, num_frames=16, stride=4)
    assert "secret-name" not in str(caught.value)


def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", 44100)
        for _ in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="no video stream"):
        read_clip(path, num_frames=16, stride=4)


def test_a_file_cut_in_half_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.mkv", frames=200, codec="mpeg4", size=(320, 240))
    content = path.read_bytes()
    with pytest.raises(VideoError):
        read_clip(content[: len(content) // 100], num_frames=16, stride=4)
