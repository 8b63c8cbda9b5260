"""When the frames of a video are shown: read from its packets, which are not decoded."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from vjepa_mlflow.video.completeness import is_cut_off
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.opening import OpenVideo, Source, open_video

GUESSED_RATE = 25.0
"""Frames a second of a video that says nothing of them."""

BROADCAST = ("mpeg", "mpegts")
"""FFmpeg's names of the formats whose clock may jump ahead, as where two recordings were joined."""

BACK, AHEAD = 0.1, 10.0
"""Seconds from one packet to the next beyond which a clock has jumped; FFmpeg's own programs take the same."""

HEADERS_ERR_BY = 2
"""Frames that a file announces and that are not there, without anything being wrong."""

UNKNOWN = -(2**63)
"""In place of a timestamp that a packet does not have, as in FFmpeg."""

LARGEST = 2**61
"""Of timestamps, so that what is between two of them is a number of 64 bits, too."""

VP8_IS_SHOWN = 0x10
"""Of a VP8 frame's first byte (RFC 6386, section 9.1)."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a video that are shown, in the order in which they are.

    Attributes:
        seconds: when each is shown, from the first one on, ascending, float64 of shape (frames,).
        stamps: their presentation timestamps in the file's own units, int64 of shape (frames,).
        keys: those of the frames that decoding can begin at, ascending, of shape (keys,).
        key_positions: what the container is asked to seek for each of these, their times of decoding.
        timed: whether each decoded frame comes with its stamp, and no other with the same. If not, frames can only be
            counted.
        declared_rate: frames a second, as the file says or FFmpeg guesses.
        missing: frames that the file announces beyond these.
        complete: whether every packet that ought to says when its frame is shown. If not, only decoding tells which
            frames there are.
        clear_from: index of the first frame that decoding can begin at. Those before it, where a recording was cut, may
            need others that are not there.
    """

    seconds: np.ndarray
    stamps: np.ndarray
    keys: np.ndarray
    key_positions: np.ndarray
    timed: bool
    declared_rate: float
    missing: int = 0
    complete: bool = True
    clear_from: int = 0

    @property
    def num_frames(self) -> int:
        """How many there are, at least 1."""
        return len(self.seconds)

    @property
    def frames_per_second(self) -> float:
        """On average; of a single frame as the file says."""
        return (self.num_frames - 1) / float(self.seconds[-1]) if self.seconds[-1] else self.declared_rate

    @property
    def is_seekable(self) -> bool:
        """Whether a stamp tells which frame it is of."""
        return self.timed and bool((np.diff(self.stamps) > 0).all())

    @property
    def duration(self) -> float:
        """For how many seconds frames are shown, if the last one is for as long as the others on average."""
        return float(self.seconds[-1]) + 1 / self.frames_per_second

    @property
    def is_incomplete(self) -> bool:
        """Whether so many frames are missing that the video must be cut off or damaged."""
        return self.missing > max(HEADERS_ERR_BY, (self.num_frames + self.missing) // 20)

    def only(self, kept: np.ndarray) -> "Timeline":
        """These frames, by a mask or by indices, and no others."""
        return replace(self, seconds=self.seconds[kept] - self.seconds[kept][0], stamps=self.stamps[kept])

    def without_the_end(self, count: int) -> "Timeline":
        """The first frames; the others become missing."""
        return replace(self.only(np.arange(count)), missing=self.missing + self.num_frames - count)


def read_timeline(source: Source) -> Timeline:
    """Reads all packets of a video, and decodes nothing.

    Raises:
        VideoError: it is not a video that can be read, has no frames, or is beyond its limits.
    """
    with open_video(source) as opened:
        timeline = _arrange(opened, _read_packets(source, opened))
    source.limits.check_seconds(timeline.duration)
    return timeline


def decode_beginning(source: Source, timeline: Timeline) -> Timeline:
    """Leaves out what does not come out of the decoder before the first frame that decoding can begin at.

    Args:
        source: the video.
        timeline: what its packets say.

    Raises:
        VideoError: it cannot be decoded.
    """
    first_clear = timeline.stamps[timeline.clear_from]
    with open_video(source) as opened:
        stamps = (frame.pts for frame in decode(source, opened) if frame.pts is not None)
        early = list(takewhile(lambda stamp: stamp < first_clear, stamps))
    is_clear = np.arange(timeline.num_frames) >= timeline.clear_from
    return replace(timeline.only(is_clear | np.isin(timeline.stamps, early)), clear_from=0)


def decode_timeline(source: Source, timeline: Timeline) -> Timeline:
    """Decodes all of a video whose packets turned out not to be its frames one by one.

    Args:
        source: the video.
        timeline: what its packets say.

    Raises:
        VideoError: it cannot be decoded.
    """
    with open_video(source) as opened:
        found: list[Any] = [frame.pts for frame in decode(source, opened)]
        if not found:
            raise VideoError("no frame of it can be decoded")
        if None not in found and all(one < other for one, other in pairwise(found)):
            stamps = np.array(found)
            return replace(timeline, seconds=_seconds(stamps, opened), stamps=stamps, timed=True, complete=True)
    counted = timeline.only(np.linspace(0, timeline.num_frames - 1, len(found)).astype(int))
    return replace(counted, timed=False, complete=True)


def decode(source: Source, opened: OpenVideo) -> Iterator[VideoFrame]:
    """Decodes frames from where the file stands. A lenient source ends where it cannot be decoded any further."""
    try:
        yield from opened.container.decode(opened.stream)
    except av.FFmpegError as error:
        if not source.lenient or isinstance(error, MemoryError):
            raise


@dataclass(frozen=True, eq=False)
class _Packets:
    """What is known of the packets of a video, in the order of the file; arrays of shape (packets,).

    Attributes:
        decoded: when each is decoded, in the file's units.
        presented: when its frame is shown.
        keys: whether decoding can begin there.
        shown: whether its frame is shown at all.
        exact: whether all of them say when they are shown.
        complete: whether all of them do, or none does.
    """

    decoded: np.ndarray
    presented: np.ndarray
    keys: np.ndarray
    shown: np.ndarray
    exact: bool
    complete: bool


def _read_packets(source: Source, opened: OpenVideo) -> _Packets:
    rows = array("q")  # of four numbers: a stranger's file may have a million packets
    is_vp8 = opened.stream.codec.canonical_name == "vp8"
    for packet in opened.container.demux(opened.stream):
        if packet.size:
            dts, pts = packet.dts, packet.pts
            shown = not packet.is_discard and not (is_vp8 and _is_hidden_vp8(packet))
            rows.extend((UNKNOWN if dts is None else dts, UNKNOWN if pts is None else pts, packet.is_keyframe, shown))
            source.limits.check_frames(len(rows) // 4)
    decoded, presented, keys, shown = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    if not shown.any():
        raise VideoError("it holds no video frames")
    if max(_largest(decoded), _largest(presented)) > LARGEST:
        raise VideoError(f"its timestamps are beyond {LARGEST}")
    decoded = _filled(decoded)
    # AVI has no presentation times: what FFmpeg makes of its order of decoding is wrong where the two orders differ.
    is_guessed = opened.container.format.name == "avi" and opened.stream.codec_context.has_b_frames
    unknown = presented == UNKNOWN
    exact = not is_guessed and not unknown.any()
    return _Packets(
        decoded=decoded,
        presented=presented if exact else decoded,
        keys=keys.astype(bool),
        shown=shown.astype(bool),
        exact=exact,
        complete=bool(unknown.all() or not unknown.any()),
    )


def _largest(stamps: np.ndarray) -> int:
    return int(np.abs(stamps[stamps != UNKNOWN]).max(initial=0))


def _filled(stamps: np.ndarray) -> np.ndarray:
    """Timestamps with the next known one, or the last, in place of those that are not; their numbers if none is."""
    numbers, known = np.arange(len(stamps)), np.flatnonzero(stamps != UNKNOWN)
    if not len(known):
        return numbers
    return stamps[known[np.minimum(np.searchsorted(known, numbers), len(known) - 1)]]


def _is_hidden_vp8(packet: Packet) -> bool:
    return not memoryview(packet)[0] & VP8_IS_SHOWN


def _arrange(opened: OpenVideo, packets: _Packets) -> Timeline:
    unit = float(opened.stream.time_base or 1)
    order = np.lexsort((packets.presented, _parts(packets.decoded * unit)))
    stamps = packets.presented[order[packets.shown[order]]]
    keys = np.flatnonzero(packets.keys)[np.argsort(packets.presented[packets.keys], kind="stable")]
    return Timeline(
        seconds=_seconds(stamps, opened),
        stamps=stamps,
        keys=packets.presented[keys],
        key_positions=packets.decoded[keys],
        timed=packets.exact and len(set(stamps.tolist())) == len(stamps),
        complete=packets.complete,
        declared_rate=float(opened.stream.average_rate or opened.stream.guessed_rate or GUESSED_RATE),
        missing=_missing(opened, len(packets.shown), float(np.ptp(packets.decoded)) * unit),
        clear_from=_clear_from(packets, stamps) if packets.exact else 0,
    )


def _clear_from(packets: _Packets, stamps: np.ndarray) -> int:
    first_key = packets.presented[packets.keys][:1]
    return int(np.argmax(stamps >= first_key)) if len(first_key) else 0


def _parts(decoded: np.ndarray) -> np.ndarray:
    """The number of the part that each packet belongs to, where a clock goes back between parts."""
    return np.cumsum(np.diff(decoded, prepend=decoded[0]) < -BACK)


def _seconds(stamps: np.ndarray, opened: OpenVideo) -> np.ndarray:
    """Times from 0 on. Where a clock has jumped, a frame follows the one before as most others do."""
    unit = float(opened.stream.time_base or 1)
    steps = np.diff(stamps) * unit
    jumped = (steps < 0) | ((steps > AHEAD) & (opened.container.format.name in BROADCAST))
    usual = max(0.0, np.sort(steps)[len(steps) // 2]) if len(steps) else 0.0
    excess = np.where(jumped, steps - usual, 0.0)
    return (stamps - stamps[0]) * unit - np.concatenate([[0.0], np.cumsum(excess)])


def _missing(opened: OpenVideo, found: int, seconds: float) -> int:
    """How many packets a file announces that are not in it. What headers say of frames and seconds is often wrong of
    files that are whole, so it counts only where a file says itself that it lacks its end."""
    container, stream, file = opened
    if "mp4" in container.format.name:
        return max(0, len(stream.index_entries) - found)
    if not is_cut_off(file):
        return 0
    of_frames = float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    announced = max(of_frames, (container.duration or 0) / av.time_base)
    return max(0, round(announced * (found - 1) / seconds) - found) if seconds else 0
