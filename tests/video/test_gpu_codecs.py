"""A GPU's decoder, kept from one video to the next; decoders without a GPU stand for it."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from helpers import allocate, whole_clips, write_video

from vjepa_mlflow.video import Sampling, VideoError, gpu_codecs, gpu_decoder, read_clip
from vjepa_mlflow.video.one_pass import Declined, Pass
from vjepa_mlflow.video.opening import Source

POSITIONS = (0.0, 0.4, 0.9)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[gpu_codecs._Parameters]:
    """The parameters of the decoders that were made."""
    found: list[gpu_codecs._Parameters] = []

    def make(parameters: gpu_codecs._Parameters) -> VideoCodecContext:
        found.append(parameters)
        codec = CodecContext.create(parameters.codec, "r")
        assert isinstance(codec, VideoCodecContext)
        codec.extradata, codec.thread_count = parameters.extradata, 1
        return codec

    monkeypatch.setattr(gpu_codecs, "_make", make)
    monkeypatch.setattr(gpu_codecs, "_KEPT", {})
    monkeypatch.setattr(gpu_decoder, "LEAST_PIXELS", 1)
    return found


def read(path: Path) -> tuple[dict[float, np.ndarray | VideoError], list[str]]:
    """The clips, and why the GPU's decoder was not used."""
    parts = list(Pass(Source(path), Sampling(8, 2), allocate, as_planes=True, gpu=0).read(POSITIONS))
    return whole_clips(parts), [part.reason for part in parts if isinstance(part, Declined)]


def expected(path: Path) -> list[np.ndarray]:
    return [read_clip(path, num_frames=8, stride=2, position=position) for position in POSITIONS]


def are_those_of(clips: dict[float, np.ndarray | VideoError], path: Path) -> bool:
    return all(np.array_equal(clips[position], clip) for position, clip in zip(POSITIONS, expected(path), strict=True))


def test_videos_with_the_same_parameters_share_a_decoder(tmp_path: Path, made: list[gpu_codecs._Parameters]) -> None:
    alike = [write_video(tmp_path / f"{number}.mp4", frames=90 + number) for number in range(3)]
    larger = write_video(tmp_path / "larger.mp4", frames=90, size=(96, 80))
    for path in (*alike, larger, alike[0]):
        clips, declined = read(path)
        assert not declined
        assert are_those_of(clips, path)
    assert [parameters.width for parameters in made] == [64, 96, 64]


def test_a_video_is_turned_as_its_container_says(tmp_path: Path, made: list[gpu_codecs._Parameters]) -> None:
    upright, turned = write_video(tmp_path / "upright.mp4"), tmp_path / "turned.mp4"
    with av.open(str(upright)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    for path in (upright, turned):
        clips, declined = read(path)
        assert not declined
        assert are_those_of(clips, path)
    assert expected(turned)[0].shape[1:3] == expected(upright)[0].shape[2:0:-1]
    assert len(made) == 1


def test_where_decoders_may_differ_software_decodes(tmp_path: Path, made: list[gpu_codecs._Parameters]) -> None:
    path = write_video(tmp_path / "loose.mp4", codec="mpeg4", frames=90)
    clips, declined = read(path)
    assert declined == ["decoders of mpeg4 may differ"]
    assert are_those_of(clips, path)
    assert not made


def test_a_decoder_that_met_an_error_is_not_used_again(
    tmp_path: Path, made: list[gpu_codecs._Parameters], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (write_video(tmp_path / f"{number}.mp4", frames=90) for number in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(gpu_decoder, "_are_equal", lambda *_: False)
        clips, declined = read(first)
    assert declined == ["its first frame is not the one that software decodes"]
    assert are_those_of(clips, first)
    assert not gpu_codecs._KEPT
    assert are_those_of(read(second)[0], second)
    assert len(made) == 2
