"""Which frames a clip has, for files of many kinds, against what ffmpeg shows of them."""

import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import allocate, draw_number, frame_number, read_clips, whole_clips

from vjepa_mlflow.video import Decoders, Limits, Sampling, VideoError, read_clip, seeking
from vjepa_mlflow.video.one_pass import Pass
from vjepa_mlflow.video.opening import OpenVideo, Source
from vjepa_mlflow.video.sampling import choose_frames
from vjepa_mlflow.video.timeline import read_timeline

FRAMES = 330
TIME_BITS = 5
"""Of a time in MPEG-4 at 30 frames a second."""

SIZE = (64, 48)


def ffmpeg(*arguments: object) -> bytes:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def shown(path: Path) -> list[int]:
    """The numbers of the frames that ffmpeg shows, in its order."""
    output = ffmpeg("-i", path, "-map", "0:V:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    frames = np.frombuffer(output, dtype=np.uint8).reshape(-1, SIZE[1], SIZE[0], 3)
    return [frame_number(frame) for frame in frames]


def write_timed(path: Path, times: list[float], codec: str, *, clock: int = 90000, **options: str) -> None:
    """Numbered frames that are shown at some times, in seconds, of an encoder that counts so many ticks of one."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 30, options={"g": "25", **options})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, clock)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw_number(number, SIZE), format="rgb24")
            frame.pts, frame.time_base = round(time * clock), Fraction(1, clock)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


EVEN = [number / 30 for number in range(FRAMES)]
UNEVEN = [number / 30 + number // 7 * 0.045 + number * 7919 % 11 / 450 for number in range(FRAMES)]
PAUSED = [number / 30 + 7 * (number >= 100) + 20 * (number >= 250) for number in range(FRAMES)]
X264 = {"bf": "3", "preset": "ultrafast"}
OPEN = {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=1:keyint=25:min-keyint=25:bframes=3:scenecut=0"}

SOURCES: dict[str, Callable[[Path], None]] = {
    "even.mp4": lambda path: write_timed(path, EVEN, "libx264", **X264),
    "uneven.mp4": lambda path: write_timed(path, UNEVEN, "libx264", **X264),
    "paused.mp4": lambda path: write_timed(path, PAUSED, "libx264", **X264),
    "uneven.webm": lambda path: write_timed(path, UNEVEN, "libvpx-vp9", deadline="realtime", **{"cpu-used": "8"}),
    "open.mp4": lambda path: write_timed(path, EVEN, "libx265", **OPEN),
    "even.mpg": lambda path: write_timed(path, EVEN, "mpeg2video", clock=30, bf="2"),
    "bframes.avi": lambda path: write_timed(path, EVEN, "mpeg4", clock=30, bf="2"),
}

COPIES = {
    **{f"even.{suffix}": ("even.mp4",) for suffix in ("mov", "mkv", "ts", "flv", "avi", "h264")},
    **{f"uneven.{suffix}": ("uneven.mp4",) for suffix in ("mov", "mkv", "ts", "flv", "avi")},
    **{f"paused.{suffix}": ("paused.mp4",) for suffix in ("mkv", "ts")},
    "remuxed.mkv": ("uneven.webm",),
    "programme.ts": ("even.mpg",),
    "trimmed.mp4": ("even.mp4", "-ss", "3.3"),
    "trimmed.mov": ("uneven.mp4", "-ss", "3.3", "-t", "9"),
    "trimmed.ts": ("open.mp4", "-ss", "4.2"),
    "trimmed.mkv": ("open.mp4", "-ss", "4.2"),
    **{f"delayed.{suffix}": ("even.mp4", "-output_ts_offset", "18000") for suffix in ("mp4", "mkv", "ts", "flv")},
    "fragmented.mp4": ("uneven.mp4", "-movflags", "frag_keyframe+empty_moov"),
    "live.webm": ("uneven.webm", "-live", "1"),
}


def copy(folder: Path, name: str, source: str, *options: str) -> None:
    seek = options if options[:1] == ("-ss",) else ()
    written = () if seek else options
    ffmpeg(*seek, "-i", folder / source, "-c", "copy", *written, folder / name)


def write_hidden_references(path: Path) -> None:
    """VP8 with frames that are never shown, only referred to."""
    numbers = b"".join(draw_number(number, SIZE).tobytes() for number in range(FRAMES))
    (path.parent / "raw").write_bytes(numbers)
    given = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", "30", "-i", path.parent / "raw", "-b:v", "60k")
    for number in (1, 2):
        passes = ("-pass", number, "-passlogfile", path.parent / "log")
        ffmpeg(*given, "-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "25", "-cpu-used", "4", *passes, path)


def write_empty_packets(path: Path) -> None:
    """MPEG-4 in which some packets hold no frame, as encoders write where nothing has changed."""
    with av.open(str(path.parent / "plain.avi")) as source, av.open(str(path), "w") as copied:
        stream = source.streams.video[0]
        written = copied.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            content = bytes(packet)
            start = content.find(b"\0\0\1\xb6") + 4
            if 40 <= number < 80 and content[start] >> 6 == 1:  # a P-VOP: its bits up to vop_coded, which becomes 0
                bits = f"{int.from_bytes(content[start : start + 6], 'big'):048b}"
                seconds = bits.index("0", 2)
                coded = seconds + 2 + TIME_BITS + 1
                bits = (bits[:coded] + "0").ljust(48, "1")
                empty = av.Packet(content[:start] + int(bits, 2).to_bytes(6, "big"))
                empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                packet = empty
            if packet.size:
                packet.stream = written
                copied.mux(packet)


def write_sound(folder: Path, name: str) -> None:
    """Sound that begins before the frames and goes on when they have ended."""
    late, noise = ("-itsoffset", "3", "-i", folder / "even.mp4"), ("-f", "lavfi", "-i", "sine=d=40")
    ffmpeg(*late, *noise, "-c:v", "copy", "-map", "0:v", "-map", "1:a", folder / name)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    for name, write in SOURCES.items():
        write(folder / name)
    for name, (source, *options) in COPIES.items():
        copy(folder, name, source, *options)
    write_hidden_references(folder / "hidden.webm")
    write_timed(folder / "plain.avi", EVEN, "mpeg4", clock=30, bf="0")
    write_empty_packets(folder / "empty.avi")
    with (folder / "piped.avi").open("wb") as piped:  # whose sizes are never filled in
        given = ("-i", folder / "even.mp4", "-c:v", "mjpeg", "-q:v", "3", "-f", "avi", "-")
        piped.write(ffmpeg(*given))
    for suffix in ("mp4", "mkv"):
        small = ("-i", folder / "even.mp4", "-map", "0", "-map", "0", "-c:v:0", "libx264", "-s:v:0", "32x24")
        ffmpeg(*small, "-c:v:1", "copy", folder / f"two_streams.{suffix}")
    for name in ("sound.mp4", "sound.mkv", "sound.ts"):
        write_sound(folder, name)
    (folder / "joined.ts").write_bytes((folder / "even.ts").read_bytes() + (folder / "uneven.ts").read_bytes())
    (folder / "jumping.ts").write_bytes((folder / "even.ts").read_bytes() + (folder / "delayed.ts").read_bytes())
    (folder / "joined.mpg").write_bytes((folder / "even.mpg").read_bytes() * 2)
    return folder


KINDS = [
    *SOURCES,
    *COPIES,
    *("hidden.webm", "empty.avi", "piped.avi"),
    *("sound.mp4", "sound.mkv", "sound.ts"),
    *("joined.ts", "jumping.ts", "joined.mpg"),
]


@pytest.mark.parametrize("name", KINDS)
def test_a_clip_has_the_frames_that_ffmpeg_shows(name: str, kinds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = shown(kinds / name)
    timeline = read_timeline(Source(kinds / name))
    assert timeline.missing == 0
    assert timeline.num_frames == len(expected) or timeline.clear_from or not timeline.complete
    for seek_over in (0, 10**9):
        monkeypatch.setattr(seeking, "SEEK_OVER", seek_over)
        for position in (0.0, 0.5, 0.83, 1.0):
            clip = read_clip(kinds / name, num_frames=8, stride=4, position=position)
            chosen = choose_frames(np.arange(len(expected)), Sampling(8, 4), position)
            assert [frame_number(frame) for frame in clip] == [expected[index] for index in chosen], position


@pytest.mark.parametrize("name", KINDS)
def test_one_pass_gives_the_clips_that_readings_of_their_own_give(name: str, kinds: Path) -> None:
    positions = (0.9, 0.0, 0.4, 0.35, 1.0)
    expected = [read_clip(kinds / name, num_frames=8, stride=4, position=position) for position in positions]
    for as_planes in (False, True):
        reader = Pass(Source(kinds / name), Sampling(8, 4), allocate, as_planes=as_planes)
        found = whole_clips(reader.read(positions))
        assert all(np.array_equal(found[at], clip) for at, clip in zip(positions, expected, strict=True))


@pytest.mark.parametrize("name", ["two_streams.mp4", "two_streams.mkv"])
def test_of_several_streams_the_largest_is_read(name: str, kinds: Path) -> None:
    clip = read_clip(kinds / name, num_frames=8)
    assert np.array_equal(clip, read_clip(kinds / "even.mp4", num_frames=8))


@pytest.mark.parametrize("name", ["even.mp4", "even.ts", "even.mkv", "even.mpg", "uneven.webm", "trimmed.mov"])
def test_seeking_decodes_little_more_than_the_clip(name: str, kinds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode_all = OpenVideo.decode

    def counted(opened: OpenVideo, *args: Any, **kwargs: Any) -> Iterator[av.VideoFrame]:
        for frame in decode_all(opened, *args, **kwargs):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(OpenVideo, "decode", counted)
    monkeypatch.setattr(seeking, "SEEK_OVER", 100)
    read_clip(kinds / name, num_frames=4, stride=4, position=0.95)
    assert len(decoded) <= 1 + 13 + 25 + 50  # the clip, the key frame before it, and two more where that was not found


@pytest.mark.parametrize("name", ["uneven.mp4", "trimmed.mp4", "joined.ts", "sound.mkv", "hidden.webm"])
def test_training_and_a_server_read_the_same_frames(name: str, kinds: Path) -> None:
    sampling = Sampling(8, frames_per_second=7.5)
    expected = read_clip(kinds / name, num_frames=8, frames_per_second=7.5, position=0.9)
    (trained,) = read_clips([kinds / name], sampling, 0.9)
    served = Decoders(1, sampling, Limits()).read((kinds / name).read_bytes(), 0.9)
    assert served.warning == ""
    assert np.array_equal(served.clip, expected)
    assert not isinstance(trained, VideoError)
    assert np.array_equal(trained, expected)


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mov", "uneven.mkv", "uneven.ts", "uneven.flv", "uneven.webm"])
@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_by_time_every_container_shows_the_same(name: str, position: float, kinds: Path) -> None:
    clip = read_clip(kinds / name, num_frames=8, frames_per_second=4, position=position)
    chosen = choose_frames(np.array(UNEVEN), Sampling(8, frames_per_second=4), position)
    assert [frame_number(frame) for frame in clip] == chosen.tolist()


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("even.mp4", 11),
        ("delayed.mkv", 11),
        ("delayed.ts", 11),
        ("jumping.ts", 22),
        ("paused.mkv", 38),
        ("joined.mpg", 22),
    ],
)
def test_a_video_lasts_as_long_as_it_is_shown(name: str, seconds: float, kinds: Path) -> None:
    assert read_timeline(Source(kinds / name)).duration == pytest.approx(seconds, abs=0.2)


@pytest.mark.parametrize("name", ["even.mp4", "even.mkv", "even.avi", "even.flv", "uneven.webm"])
def test_a_file_that_lacks_its_end_is_noticed(name: str, kinds: Path, tmp_path: Path) -> None:
    if name == "even.mp4":  # whose index comes last unless asked for
        copy(kinds, "early.mp4", name, "-movflags", "faststart")
        name = "early.mp4"
    content = (kinds / name).read_bytes()
    source = Source(content[: len(content) * 6 // 10])
    timeline = read_timeline(source)
    assert timeline.is_incomplete
    assert timeline.num_frames < 0.8 * FRAMES


MATRICES = {
    "as it is": (1, 0, 0, 1),
    "turned left": (0, -1, 1, 0),
    "turned right": (0, 1, -1, 0),
    "upside down": (-1, 0, 0, -1),
    "mirrored": (-1, 0, 0, 1),
    "mirrored upside down": (1, 0, 0, -1),
    "mirrored and turned left": (0, 1, 1, 0),
    "mirrored and turned right": (0, -1, -1, 0),
    "scaled": (0, 2, -2, 0),
}


@pytest.mark.parametrize("name", MATRICES)
def test_frames_are_turned_and_mirrored_as_ffmpeg_does(name: str, tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=1:s=64x48:r=10", "-pix_fmt", "yuv420p", path)
    content = bytearray(path.read_bytes())
    a, b, c, d = (value * 65536 for value in MATRICES[name])
    struct.pack_into(">5i", content, content.find(b"tkhd") + 44, a, b, 0, c, d)
    path.write_bytes(content)
    (frame,) = read_clip(path, num_frames=1, position=0.0)
    output = ffmpeg("-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    expected = np.frombuffer(output, dtype=np.uint8).reshape(frame.shape)
    assert np.abs(frame.astype(int) - expected).mean() < 2
    served = Decoders(1, Sampling(1), Limits()).read(path.read_bytes(), 0.0)
    assert np.array_equal(served.clip[0], frame)


def test_a_codec_that_nobody_knows_is_refused(kinds: Path) -> None:
    content = (kinds / "even.mp4").read_bytes().replace(b"avc1", b"zzzz")
    with pytest.raises(VideoError, match="its codec is not one that FFmpeg decodes"):
        read_clip(content, num_frames=8)
    with pytest.raises(VideoError, match="its codec is not one that FFmpeg decodes"):
        Decoders(1, Sampling(8), Limits()).read(content, 0.5)


@pytest.mark.parametrize(
    "name", ["concat:a.mp4", "data:a.mp4", "file:a.mp4", "pipe:0.mp4", "http:a.mp4", "%03d.mp4", "-.mp4", "a b?#&.mp4"]
)
def test_any_name_is_only_a_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes((kinds / "even.mp4").read_bytes())
    assert read_clip(Path(name), num_frames=8).shape == (8, 48, 64, 3)
    odd = Path(os.fsdecode(b"\xff\xfe.mp4"))
    Path(name).rename(odd)
    assert read_clip(odd, num_frames=8).shape == (8, 48, 64, 3)


def test_two_frames_at_one_time_are_two(tmp_path: Path) -> None:
    path = tmp_path / "fast.mkv"  # whose clock counts milliseconds
    write_timed(path, [number / 2400 for number in range(300)], "libx264", **X264)
    timeline = read_timeline(Source(path))
    assert timeline.num_frames == len(shown(path)) == 300
    assert len(np.unique(timeline.stamps)) < 300
    clip = read_clip(path, num_frames=8, stride=4, position=1.0)
    assert [frame_number(frame) for frame in clip] == list(range(271, 300, 4))
