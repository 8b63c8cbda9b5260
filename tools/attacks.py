"""What clients may do to a server that takes more of it than requests should.

Each attack is a function that makes a client; what it exhausts stands in its docstring.
"""

import base64
import gzip
import io
import json
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from http.client import HTTPConnection, HTTPException

import av
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from benchmarks.serving import draw_video
from tools.clients import JSON, NOT_YET, Answer, Client, asking, receive, send

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"

LARGEST_FRAME = 4096, 2304
"""Width and height of the largest frames that a server takes unless it is told otherwise."""

PERIOD = 16
"""Frames after which the numbers repeat that H.264 gives its frames, if there is one key frame (ISO/IEC 14496-10,
7.4.3: `frame_num`, of 4 bits where an encoder wants no more)."""

HOLD_SECONDS = 6.0
"""For which clients that do not want to be answered stay."""


def good_body(video: bytes | None = None, *, count: int = 1, **params: int | str) -> bytes:
    """As README's curl sends a video, here several times."""
    text = base64.b64encode(draw_video() if video is None else video).decode()
    return json.dumps({"dataframe_records": [{"video": text}] * count, "params": params}).encode()


def silent_connections() -> Client:
    """Descriptors: 100 connections that send nothing."""

    def client(port: int, until: float) -> list[Answer]:
        with ExitStack() as held:
            for _ in range(100):
                with suppress(OSError):  # refused, which is as good as an answer
                    held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
            time.sleep(_patience(until))
        return []

    return client


def slow_bodies() -> Client:
    """Room that is held for bodies: eight of them are announced with 200 MB, and come 1 KiB at a time."""
    head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: {JSON}\r\nContent-Length: {200 * 10**6}\r\n\r\n"

    def client(port: int, until: float) -> list[Answer]:
        begun, answers = time.monotonic(), []
        with ExitStack() as held, selectors.DefaultSelector() as answered:
            for _ in range(8):
                one = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
                one.sendall(head.encode() + b'{"inputs": "')
                answered.register(one, selectors.EVENT_READ)
            end = begun + _patience(until)
            while time.monotonic() < end and answered.get_map():
                for key, _ in answered.select(timeout=0):
                    answers.append(_first_words(key.fileobj, begun))
                    answered.unregister(key.fileobj)
                for key in answered.get_map().values():
                    with suppress(OSError):  # it has been answered by now
                        key.fileobj.send(b"A" * 1024)  # type: ignore[union-attr]
                time.sleep(0.1)
        return answers

    return client


def _first_words(connection: object, begun: float) -> Answer:
    assert isinstance(connection, socket.socket)
    try:
        head, _, body = connection.recv(1 << 16).partition(b"\r\n\r\n")
        status = int(head.split()[1]) if head else 0
    except OSError as error:
        return Answer(0, type(error).__name__, time.monotonic() - begun)
    return Answer(status, body.decode(errors="replace"), time.monotonic() - begun)


def _patience(until: float) -> float:
    return max(0.0, min(HOLD_SECONDS, until - time.monotonic()))


def deep_json() -> Client:
    """The stack of a parser: 100,000 lists in each other."""
    return asking(b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def long_number() -> Client:
    """Time that is the square of a length: a number of a million digits."""
    return asking(b'{"inputs": {"video": [' + b"7" * 10**6 + b"]}}")


def many_keys() -> Client:
    """Memory for names: two million of them in an object of 24 MB."""
    return asking(b'{"inputs": {' + b",".join(b'"%07d":0' % number for number in range(2_000_000)) + b"}}")


def many_numbers() -> Client:
    """Memory for values: ten million numbers in 20 MB."""
    return asking(b'{"inputs": {"video": [' + b"1," * 10**7 + b"1]}}")


def empty_lists() -> Client:
    """Memory for values, and the search for garbage among them: five million lists in 15 MB."""
    lists = b",".join([b"[]"] * 5_000_000)
    return asking(b'{"dataframe_split": {"columns": ["video"], "data": [' + lists + b"]}}")


def many_columns() -> Client:
    """What is done for each column: 200,000 of them."""
    columns = [f"c{number}" for number in range(200_000)]
    return asking(json.dumps({"dataframe_split": {"columns": columns, "data": [[0] * len(columns)]}}).encode())


def gzip_body() -> Client:
    """Memory, if it is unpacked: 200 KB of gzip that hold 200 MB."""
    return asking(gzip.compress(b'{"inputs": "' + bytes(200 * 10**6) + b'"}'), **{"Content-Encoding": "gzip"})


def large_csv() -> Client:
    """Time and memory for rows: six million of them in 50 MB of CSV."""
    return asking(b"video\n" + b"\n".join(b"x%d" % number for number in range(6_000_000)), CSV)


def large_parquet() -> Client:
    """Memory: parquet of 400 KB, whose 256 values of 16 MB each are 4 GB."""
    rows = pa.table({"video": [bytes(16 * 10**6)] * 8})
    content = io.BytesIO()
    with parquet.ParquetWriter(content, rows.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(256 // 8):
            writer.write_table(rows)
    return asking(content.getvalue(), PARQUET)


def parquet_of_columns() -> Client:
    """What is done for each column, in parquet: 20,000 of them."""
    content = io.BytesIO()
    pd.DataFrame({f"c{number}": [0] for number in range(20_000)}).to_parquet(content)
    return asking(content.getvalue(), PARQUET)


def junk_base64() -> Client:
    """Memory for copies of a body: 200 MB, good base64 of what is no video."""
    junk = base64.b64encode(np.random.default_rng(0).bytes(75 * 10**6)).decode()
    return asking(json.dumps({"dataframe_records": [{"video": junk}] * 2}).encode())


def huge_string() -> Client:
    """Memory for copies of a body: 200 MB, one string that is no base64."""
    return asking(b'{"inputs": {"video": ["' + b"*" * (200 * 10**6) + b'"]}}')


def many_requests() -> Client:
    """The line of those that wait: 64 good requests at once by one client."""
    body, headers = good_body(), {"Content-Type": JSON}

    def client(port: int, until: float) -> list[Answer]:
        begun, answers = time.monotonic(), []
        with selectors.DefaultSelector() as answered:
            for _ in range(64):
                connection = HTTPConnection("127.0.0.1", port, timeout=max(0.01, until - time.monotonic()))
                try:
                    send(connection, body, headers)
                    answered.register(connection.sock, selectors.EVENT_READ, connection)
                except OSError as error:
                    answers.append(Answer(0, type(error).__name__, time.monotonic() - begun))
            while answered.get_map() and time.monotonic() < until:
                for key, _ in answered.select(timeout=0.1):
                    answered.unregister(key.fileobj)
                    try:
                        answers.append(receive(key.data, begun))
                    except (OSError, HTTPException) as error:
                        answers.append(Answer(0, type(error).__name__, time.monotonic() - begun))
                    key.data.close()
            for key in answered.get_map().values():
                answers.append(Answer(0, NOT_YET, time.monotonic() - begun))
                key.data.close()
        return answers

    return client


def many_packets() -> Client:
    """What is done for each packet: a file of 900,000 frames of 16x16 pixels."""
    return asking(good_body(still_video(900_000, (16, 16), rate=100)))


def slow_file() -> Client:
    """The time of a decoder: 40,000 of the largest frames in 2 MB, with one key frame, and the clip in their middle."""
    return asking(good_body(still_video(40_000, LARGEST_FRAME, rate=30)))


def many_clips() -> Client:
    """The time of decoders and of the model: 256 videos, 32 clips of each."""
    return asking(good_body(still_video(64, (320, 240)), count=256, num_clips=32))


def hang_ups() -> Client:
    """Work for nobody: ten requests for 32 clips of each of 64 videos, by clients that are gone once they asked."""
    body = good_body(still_video(64, (320, 240)), count=64, num_clips=32)

    def client(port: int, until: float) -> list[Answer]:
        for _ in range(10):
            with suppress(OSError):
                connection = HTTPConnection("127.0.0.1", port, timeout=max(0.01, until - time.monotonic()))
                send(connection, body, {"Content-Type": JSON})
                connection.close()
            time.sleep(0.1)
        return []

    return client


def large_frames() -> Client:
    """Memory for clips: 64 videos of one colour, whose clips of the largest frames have 453 MB each."""
    return asking(good_body(still_video(17, LARGEST_FRAME), count=64))


ATTACKS: Sequence[Callable[[], Client]] = (
    silent_connections,
    slow_bodies,
    deep_json,
    long_number,
    gzip_body,
    many_keys,
    many_numbers,
    empty_lists,
    many_columns,
    parquet_of_columns,
    large_csv,
    junk_base64,
    huge_string,
    large_parquet,
    many_requests,
    many_packets,
    slow_file,
    many_clips,
    hang_ups,
    large_frames,
)
"""The heaviest last."""


def still_video(frames: int, size: tuple[int, int], *, rate: int = 25) -> bytes:
    """A film of one colour in MP4 (H.264): one key frame, and what says that nothing changes, again and again.

    Only a period of it is encoded, so it takes no time to speak of to make frames that take long to decode.
    """
    first, *others = _encode_still(PERIOD + 1, size)
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.options = _ENCODING
        stream.codec_context.open()  # which makes the header that goes with the packets
        for number in range(frames):
            packet = av.Packet(others[(number - 1) % PERIOD] if number else first)
            packet.stream, packet.time_base = stream, Fraction(1, rate)
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, number == 0
            container.mux(packet)
    return content.getvalue()


_ENCODING = {"preset": "ultrafast", "tune": "zerolatency", "g": "1000", "bf": "0", "x264-params": "scenecut=0"}


def _encode_still(frames: int, size: tuple[int, int]) -> list[bytes]:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
    encoder.time_base, encoder.options = Fraction(1, 25), _ENCODING
    image = av.VideoFrame(*size, "yuv420p")
    for plane in image.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    packets = []
    for number in range(frames):
        image.pts = number
        packets += encoder.encode(image)
    return [bytes(packet) for packet in packets + encoder.encode(None)]
