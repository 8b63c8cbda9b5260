"""Decoding in processes that can do no harm, with files that try."""

import ctypes
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from helpers import frame_number, wait_until, write_video

from vjepa_mlflow.video import Decoders, Limits, Reading, Sampling, VideoError, read_clip

IN_OPEN = 0x20


@pytest.fixture(scope="module")
def decoders() -> Decoders:
    return Decoders(1, Sampling(16, 4), Limits())


def decoder_of(decoders: Decoders) -> psutil.Process:
    """The one that has decoded."""
    server = psutil.Process(decoders._crew._turns._server._process.pid)
    (process,) = server.children()
    return process


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9"), ("a.ts", "mpeg2video"), ("a.mov", "libx265")],
)
@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_clips_are_those_of_training(
    tmp_path: Path, decoders: Decoders, name: str, codec: str, position: float
) -> None:
    path = write_video(tmp_path / name, frames=400, codec=codec, key_frames=50)
    expected = read_clip(path, num_frames=16, stride=4, position=position)
    for video in (path, path.read_bytes()):
        clip, warning = decoders.read(video, position)
        assert np.array_equal(clip, expected)
        assert warning == ""


def test_the_frames_are_the_callers_own(tmp_path: Path, decoders: Decoders) -> None:
    path = write_video(tmp_path / "a.mp4")
    first = decoders.read(path, 0.5).clip
    kept = first.copy()
    first[0] = 0
    assert np.array_equal(decoders.read(path, 0.5).clip, kept)


def cut(path: Path, share: float) -> bytes:
    content = path.read_bytes()
    return content[: int(len(content) * share)]


def test_a_cut_video_is_read_with_a_warning_while_there_are_enough_frames(tmp_path: Path, decoders: Decoders) -> None:
    # The index of a Matroska file may be missing, an MP4 file's comes first only when asked for.
    path = write_video(tmp_path / "a.mkv", frames=200, codec="mpeg4", size=(320, 240))
    clip, warning = decoders.read(cut(path, 0.6), 0.5)
    assert warning.startswith("cut off or damaged: the clip is taken from ")
    assert warning.endswith(" of its 200 frames")
    numbers = [frame_number(frame) for frame in clip]
    assert numbers == list(range(numbers[0], numbers[0] + 61, 4))
    assert decoders.read(path, 0.5).warning == ""
    with pytest.raises(VideoError, match=r"only \d+ of its 200 frames can be decoded: expected at least 16"):
        decoders.read(cut(path, 0.07), 0.5)


def encode_black(size: int, path: Path, codec: str, pixel_format: str = "yuv420p", **options: str) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25, options=options)
        stream.width = stream.height = size
        stream.pix_fmt = pixel_format
        frame = av.VideoFrame(size, size, pixel_format)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def patched(content: bytes, box: bytes, offset: int, *numbers: int) -> bytes:
    """An MP4 file with other 32-bit numbers in one of its boxes, so many bytes behind the box's name."""
    changed = bytearray(content)
    struct.pack_into(f">{len(numbers)}I", changed, changed.find(box) + 4 + offset, *numbers)
    return bytes(changed)


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of at most 1 MB that want far more memory or time than they have bytes."""
    folder = tmp_path_factory.mktemp("bombs")
    small = write_video(folder / "small.mp4", frames=32).read_bytes()
    size = 12_000  # 432 MB a frame in RGB; 16 of them for a clip
    many = patched(patched(small, b"stsz", 4, 1, 170_000_000), b"stts", 8, 170_000_000)
    return {
        "dimensions, mp4": encode_black(size, folder / "a.mp4", "libx264", preset="ultrafast"),
        "dimensions, mkv": encode_black(size, folder / "a.mkv", "libx264", preset="ultrafast"),
        "dimensions, ts": encode_black(size, folder / "a.ts", "libx264", preset="ultrafast"),
        "dimensions, avi": encode_black(8000, folder / "a.avi", "mjpeg", "yuvj420p"),
        "dimensions, gif": struct.pack("<6sHHBBB", b"GIF89a", 65_000, 65_000, 0xF7, 0, 0) + bytes(768) + b"," + small,
        "frames in the index": patched(many, b"stsc", 8, 1, 170_000_000),
        "frames in the times": patched(small, b"stts", 8, 0xFFFF_FFFF),
        "duration": patched(patched(small, b"mdhd", 16, 0xFFFF_FFFE), b"stts", 12, 0x7FFF_FFFF),
    }


def test_a_bomb_is_refused_at_once_and_takes_little_memory(bombs: dict[str, bytes], tmp_path: Path) -> None:
    ordinary = write_video(tmp_path / "a.mp4")
    for name, content in bombs.items():
        # One process after the other: what a process took at most stands in its status.
        once = Decoders(1, Sampling(16, 4), Limits())
        once.read(ordinary, 0.5)
        decoder = decoder_of(once)
        before = peak_memory(decoder), psutil.Process().memory_info().rss
        started = time.perf_counter()
        with suppress(VideoError) if name == "frames in the times" else pytest.raises(VideoError):
            once.read(content, 0.5)  # its frames are there, whatever it says of more
        assert time.perf_counter() - started < 1, name
        assert peak_memory(decoder) - before[0] < 200 * 2**20, name
        assert psutil.Process().memory_info().rss - before[1] < 50 * 2**20, name


def peak_memory(process: psutil.Process) -> int:
    (line,) = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_video_bytes=100), r"it has \d+ bytes: expected at most 100"),
        (Limits(max_frames=63), "it has 64 frames: expected at most 63"),
        (Limits(max_pixels=64 * 48 - 1), "its frames have 64x48 pixels: expected at most 3071 in all"),
        (Limits(max_aspect_ratio=1.3), "its frames have 64x48 pixels: expected a side to be at most 1.3 times as long"),
        (Limits(max_seconds=2.5), "it lasts 3 s: expected at most 2"),
        (Limits(containers=("avi", "webm")), "it is of a format that is not read here: expected one of avi, webm"),
        (Limits(codecs=("hevc", "vp9")), "its codec is h264: expected one of hevc, vp9"),
    ],
)
def test_every_limit_is_named(tmp_path: Path, limits: Limits, reason: str) -> None:
    video = write_video(tmp_path / "a.mp4").read_bytes()
    with pytest.raises(VideoError, match=reason):
        Decoders(1, Sampling(16, 4), limits).read(video, 0.5)


def write_growing_video(path: Path) -> bytes:
    """20 frames of 64x48, then 20 of 640x480, in one stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", 25)
        large = av.CodecContext.create("mpeg2video", "w")
        large.time_base, large.framerate = Fraction(1, 25), Fraction(25)
        for codec, first, width, height in ((stream.codec_context, 0, 64, 48), (large, 20, 640, 480)):
            codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
            frames = [av.VideoFrame(width, height, "yuv420p") for _ in range(20)]
            for number, frame in enumerate(frames, start=first):
                frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in [packet for frame in [*frames, None] for packet in codec.encode(frame)]:
                packet.stream = stream
                container.mux(packet)
    return path.read_bytes()


def test_frames_that_grow_later_are_held_to_the_limit(tmp_path: Path) -> None:
    content = write_growing_video(tmp_path / "a.ts")
    assert Decoders(1, Sampling(30, 1), Limits()).read(content, 0.0).clip.shape == (30, 48, 64, 3)
    small = Decoders(1, Sampling(30, 1), Limits(max_pixels=64 * 48))
    with pytest.raises(VideoError, match=r"only \d+ of its \d+ frames can be decoded: expected at least 30"):
        small.read(content, 0.0)


def test_a_video_that_hangs_or_breaks_a_decoder_is_refused_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    decoders = Decoders(1, Sampling(16, 4), Limits(max_decode_seconds=0.5))
    assert decoders.read(path, 0.5).clip.shape == (16, 48, 64, 3)
    hanging = decoder_of(decoders)
    hanging.suspend()  # which is not by whom others get a turn
    with pytest.raises(VideoError, match=r"decoding it takes too long: expected at most 0\.5 s"):
        decoders.read(path, 0.5)
    wait_until(lambda: not hanging.is_running())
    assert decoders.read(path, 0.5).clip.shape == (16, 48, 64, 3)
    broken = decoder_of(decoders)
    broken.suspend()
    threading.Timer(0.1, broken.kill).start()
    with pytest.raises(VideoError, match="it broke the decoder"):
        decoders.read(path, 0.5)
    assert decoders.read(path, 0.5).clip.shape == (16, 48, 64, 3)


def test_no_decoder_outlives_its_owner(tmp_path: Path) -> None:
    decoders = Decoders(2, Sampling(16, 4), Limits())
    decoders.read(write_video(tmp_path / "a.mp4"), 0.5)
    server = psutil.Process(decoders._crew._turns._server._process.pid)
    processes = [server, *server.children()]
    del decoders
    wait_until(lambda: not any(process.is_running() for process in processes))


def test_decoders_serve_many_threads(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{frames}.mp4", frames=frames) for frames in (20, 64, 90)]
    expected = [read_clip(path, num_frames=16, stride=4) for path in paths]
    decoders = Decoders(2, Sampling(16, 4), Limits())
    found: dict[int, Reading] = {}
    threads = [
        threading.Thread(target=lambda number=number: found.update({number: decoders.read(paths[number % 3], 0.5)}))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[number].clip, expected[number % 3]) for number in range(12))


def references(target: str, url: str) -> dict[str, bytes]:
    """Files that name another file, or an address."""
    files = {}
    for name, place in (("file", target), ("file URL", f"file://{target}"), ("URL", url)):
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:9,", place, "#EXT-X-ENDLIST"]
        files[f"HLS, {name}"] = "\n".join(lines).encode()
        files[f"concat, {name}"] = f"ffconcat version 1.0\nfile '{place}'\n".encode()
        files[f"DASH, {name}"] = (
            f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            f'mediaPresentationDuration="PT9S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
            f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{place}</BaseURL>'
            f"</Representation></AdaptationSet></Period></MPD>"
        ).encode()
        files[f"ASX, {name}"] = f'<asx version="3.0"><entry><ref href="{place}"/></entry></asx>'.encode()
        files[f"image list, {name}"] = f"{place}\n{place}\n".encode()
    files["SDP"] = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    return files


def externally_referring_mp4(video: bytes, target: str) -> bytes:
    """An MP4 file whose frames are said to lie in another file."""
    entry = struct.pack(">I4sI", 0, b"url ", 0) + target.encode() + b"\0"
    entry = struct.pack(">I", len(entry)) + entry[4:]
    start = video.find(b"dref") + 4 + 8
    (old,) = struct.unpack_from(">I", video, start)
    changed = bytearray(video[:start] + entry + video[start + old :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = changed.find(box) - 4
        (size,) = struct.unpack_from(">I", changed, place)
        struct.pack_into(">I", changed, place, size + len(entry) - old)
    return bytes(changed)


def test_nothing_that_a_file_names_is_opened(tmp_path: Path, decoders: Decoders) -> None:
    target = write_video(tmp_path / "target.mp4")
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, str(target).encode(), IN_OPEN) >= 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/target.mp4"
        own = write_video(tmp_path / "own.mp4").read_bytes()
        files = references(str(target), url) | {
            "external reference": externally_referring_mp4(own, str(target)),
            "external reference, URL": externally_referring_mp4(own, url),
        }
        for content in files.values():
            with suppress(VideoError):  # an MP4 file is read as if what it refers to were in it
                decoders.read(content, 0.5)
        with pytest.raises(BlockingIOError):
            listener.accept()
    with pytest.raises(BlockingIOError):
        os.read(watch, 4096)
    target.read_bytes()
    assert os.read(watch, 4096)  # the watch does see it
    os.close(watch)


def test_the_kernel_lets_a_decoder_open_nothing(tmp_path: Path, decoders: Decoders) -> None:
    decoders.read(write_video(tmp_path / "a.mp4"), 0.5)
    decoder = decoder_of(decoders)
    held = len(list(Path(f"/proc/{decoder.pid}/fd").iterdir()))
    assert decoder.rlimit(psutil.RLIMIT_NOFILE) == (held + 2, held + 2)
