"""When the frames of a video are shown: read from its packets, which are not decoded."""

import sys
from array import array
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import av
import numpy as np
from av.packet import Packet

from vjepa_mlflow.video.completeness import is_cut_off
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.opening import OpenVideo, Source, open_video

GUESSED_RATE = 25.0
"""Frames a second of a video that says nothing of them."""

PROGRAM_STREAM = "mpeg"
"""FFmpeg's name of the format of DVD and .mpg, where it makes up timestamps that are not there, not always well."""

BROADCAST = (PROGRAM_STREAM, "mpegts")
"""FFmpeg's names of the formats whose clock may jump ahead, as where two recordings were joined."""

BACK, AHEAD = 0.1, 10.0
"""Seconds from one packet to the next beyond which a clock has jumped; FFmpeg's own programs take the same."""

HEADERS_ERR_BY = 2
"""Frames that a file announces and that are not there, without anything being wrong."""

UNKNOWN = -(2**63)
"""In place of a timestamp that a packet does not have, as in FFmpeg."""

LARGEST = 2**61
"""Of timestamps, so that what is between two of them is a number of 64 bits, too."""

LARGEST_EMPTY = 12
"""Bytes of a packet of MPEG-4's that may hold no frame (ISO/IEC 14496-2, vop_coded), or one where nothing moves."""

VP8_IS_SHOWN = 0x10
"""Of a VP8 frame's first byte (RFC 6386, section 9.1)."""


class Key(NamedTuple):
    """A frame that decoding can begin at.

    Attributes:
        stamp: its presentation timestamp.
        at: its index, or where it is not shown that of the first frame after it.
        position: what the container is asked to seek.
    """

    stamp: int
    at: int
    position: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a video that are shown, in the order in which they are.

    Attributes:
        seconds: when each is shown, from the first one on, ascending, float64 of shape (frames,).
        stamps: their presentation timestamps in the file's own units, int64 of shape (frames,).
        keys: those of the frames that decoding can begin at, ascending, of shape (keys,).
        key_positions: what the container is asked to seek for each of these, their times of decoding.
        timed: whether each decoded frame comes with its stamp. If not, frames can only be counted.
        declared_rate: frames a second, as the file says or FFmpeg guesses.
        pixels: of a frame, as the file says.
        missing: frames that the file announces beyond these.
        complete: whether the packets tell which frames there are. If not, only decoding does.
        decoded: whether it did.
        clear_from: index of the first frame that decoding can begin at. Those before it, where a recording was cut, may
            need others that are not there.
    """

    seconds: np.ndarray
    stamps: np.ndarray
    keys: np.ndarray
    key_positions: np.ndarray
    timed: bool
    declared_rate: float
    pixels: int
    missing: int = 0
    complete: bool = True
    decoded: bool = False
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
        """Whether stamps tell which frames they are of."""
        return self.timed and bool((np.diff(self.stamps) > 0).all())

    def index_of(self, stamp: int | None) -> int | None:
        """Of the frame with a timestamp, where stamps tell; None where there is none."""
        index = 0 if stamp is None else int(np.searchsorted(self.stamps, stamp))
        return index if index < self.num_frames and self.stamps[index] == stamp else None

    def key_before(self, index: int, back: int) -> "Key | None":
        """A key frame at a frame or before it, the `back`-th, counted backwards; None where there are not so many."""
        number = int(np.searchsorted(self.keys, self.stamps[index], side="right")) - back
        if number < 0:
            return None
        stamp = int(self.keys[number])
        return Key(stamp, int(np.searchsorted(self.stamps, stamp)), int(self.key_positions[number]))

    @property
    def duration(self) -> float:
        """For how many seconds frames are shown, if the last one is for as long as the others on average."""
        return float(self.seconds[-1]) + 1 / self.frames_per_second

    @property
    def num_announced(self) -> int:
        """How many the file should have."""
        return self.num_frames + self.missing

    @property
    def is_incomplete(self) -> bool:
        """Whether so many frames are missing that the video must be cut off or damaged."""
        return self.missing > max(HEADERS_ERR_BY, self.num_announced // 20)

    def only(self, frames: np.ndarray) -> "Timeline":
        """These frames, by a mask or by indices, and no others."""
        return replace(self, seconds=self.seconds[frames] - self.seconds[frames][0], stamps=self.stamps[frames])

    def without_the_end(self, count: int, *, broken_off: bool) -> "Timeline":
        """The first frames; the others are missing where decoding broke off, and there were none where it did not."""
        missing = self.missing + (self.num_frames - count if broken_off else 0)
        return replace(self.only(np.arange(count)), missing=missing)


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
        stamps = (frame.pts for frame in opened.decode() if frame.pts is not None)
        early = list(takewhile(lambda stamp: stamp < first_clear, stamps))
    is_clear = np.arange(timeline.num_frames) >= timeline.clear_from
    return replace(timeline.only(is_clear | np.isin(timeline.stamps, early)), clear_from=0)


def decode_timeline(source: Source, timeline: Timeline) -> Timeline:
    """Decodes all of a video whose packets are not its frames one by one.

    Args:
        source: the video.
        timeline: what its packets say.

    Raises:
        VideoError: it cannot be decoded.
    """
    times: list[Any] = []
    clock, broken_off = _Clock(), False
    try:
        with open_video(source) as opened:
            clock = _Clock.of(opened)
            times.extend(frame.pts for frame in opened.decode())
    except VideoError:
        if not source.lenient:
            raise
        broken_off = True
    if not times:
        raise VideoError("no frame of it can be decoded")
    lost = max(0, timeline.num_frames - len(times)) if broken_off else 0
    counted = timeline.only(np.linspace(0, timeline.num_frames - 1, len(times)).astype(int))
    counted = replace(counted, timed=False, complete=True, decoded=True, clear_from=0, missing=timeline.missing + lost)
    if None in times or any(one >= other for one, other in pairwise(times)):
        return counted
    stamps = np.array(times)
    return replace(counted, seconds=clock.seconds(stamps), stamps=stamps, timed=True)


class _Clock(NamedTuple):
    """A file's units of time, in seconds, and whether it may jump ahead."""

    unit: float = 1.0
    jumps: bool = False

    @classmethod
    def of(cls, opened: OpenVideo) -> "_Clock":
        return cls(float(opened.stream.time_base or 1), opened.container.format.name in BROADCAST)

    def seconds(self, stamps: np.ndarray) -> np.ndarray:
        """Times from 0 on. Where the clock has jumped, a frame follows the one before as most others do."""
        steps = np.diff(stamps) * self.unit
        jumped = (steps < 0) | ((steps > AHEAD) & self.jumps)
        usual = max(0.0, np.sort(steps)[len(steps) // 2]) if len(steps) else 0.0
        excess = np.where(jumped, steps - usual, 0.0)
        return (stamps - stamps[0]) * self.unit - np.concatenate([[0.0], np.cumsum(excess)])


@dataclass(frozen=True, eq=False)
class _Packets:
    """What is known of the packets of a video, in the order of the file; arrays of shape (packets,).

    Attributes:
        decoded: when each is decoded, in the file's units.
        presented: when its frame is shown.
        keys: whether decoding can begin there.
        shown: whether its frame is shown at all.
        exact: whether all of them say when they are shown.
        complete: whether they tell which frames there are.
    """

    decoded: np.ndarray
    presented: np.ndarray
    keys: np.ndarray
    shown: np.ndarray
    exact: bool
    complete: bool = True


def _read_packets(source: Source, opened: OpenVideo) -> _Packets:
    rows = array("q")  # of four numbers: a stranger's file may have a million packets
    smallest = sys.maxsize
    is_vp8 = opened.stream.codec.canonical_name == "vp8"
    for packet in opened.container.demux(opened.stream):
        if packet.size:
            dts, pts = packet.dts, packet.pts
            shown = not packet.is_discard and not (is_vp8 and _is_hidden_vp8(packet))
            rows.extend((UNKNOWN if dts is None else dts, UNKNOWN if pts is None else pts, packet.is_keyframe, shown))
            smallest = min(smallest, packet.size)
            source.limits.check_frames(len(rows) // 4)
    decoded, presented, keys, shown = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    if not shown.any():
        raise VideoError("it holds no video frames")
    if max(_largest(decoded), _largest(presented)) > LARGEST:
        raise VideoError(f"its timestamps are beyond {LARGEST}")
    decoded = _filled(decoded)
    codec = opened.stream.codec_context
    unknown = presented == UNKNOWN
    # AVI has no presentation times: what FFmpeg makes of its order of decoding is wrong where the two orders differ.
    exact = not unknown.any() and not (codec.has_b_frames and opened.container.format.name == "avi")
    packets = _Packets(decoded, presented if exact else decoded, keys.astype(bool), shown.astype(bool), exact)
    steps = np.diff(packets.decoded if codec.has_b_frames else packets.presented) * _Clock.of(opened).unit
    doubts = (
        unknown.any() and not unknown.all(),
        opened.container.format.name != PROGRAM_STREAM and ((steps < 0) & (steps >= -BACK)).any(),
        codec.name == "mpeg4" and smallest <= LARGEST_EMPTY,
        codec.name == "hevc" and _is_cut_inside(packets),
    )
    return replace(packets, complete=not any(doubts))


def _is_cut_inside(packets: _Packets) -> bool:
    """Whether frames are hidden between others that are shown: what follows may need them, and not be decodable."""
    hidden_keys = packets.keys & ~packets.shown
    return bool(hidden_keys[int(np.argmax(packets.shown)) :].any())


def _largest(stamps: np.ndarray) -> int:
    return int(np.abs(stamps[stamps != UNKNOWN]).max(initial=0))


def _filled(stamps: np.ndarray) -> np.ndarray:
    """Timestamps with the next known one, or the last, in place of those that are not; their numbers if none is."""
    numbers, valid = np.arange(len(stamps)), np.flatnonzero(stamps != UNKNOWN)
    if not len(valid):
        return numbers
    return stamps[valid[np.minimum(np.searchsorted(valid, numbers), len(valid) - 1)]]


def _is_hidden_vp8(packet: Packet) -> bool:
    return not memoryview(packet)[0] & VP8_IS_SHOWN


def _arrange(opened: OpenVideo, packets: _Packets) -> Timeline:
    clock = _Clock.of(opened)
    order = np.lexsort((packets.presented, _parts(packets.decoded * clock.unit)))
    stamps = packets.presented[order[packets.shown[order]]]
    keys = np.flatnonzero(packets.keys)[np.argsort(packets.presented[packets.keys], kind="stable")]
    return Timeline(
        seconds=clock.seconds(stamps),
        stamps=stamps,
        keys=packets.presented[keys],
        key_positions=packets.decoded[keys],
        timed=packets.exact and not (opened.container.format.name == PROGRAM_STREAM and _repeat(stamps)),
        complete=packets.complete,
        pixels=opened.stream.codec_context.width * opened.stream.codec_context.height,
        declared_rate=float(opened.stream.average_rate or opened.stream.guessed_rate or GUESSED_RATE),
        missing=_missing(opened, len(packets.shown), float(np.ptp(packets.decoded)) * clock.unit),
        clear_from=_clear_from(packets, stamps) if packets.exact else 0,
    )


def _repeat(stamps: np.ndarray) -> bool:
    """Whether two are equal."""
    return bool((np.diff(np.sort(stamps)) == 0).any())


def _clear_from(packets: _Packets, stamps: np.ndarray) -> int:
    keys = np.flatnonzero(packets.keys)
    if not len(keys):
        return 0
    presented = packets.presented[: keys[1] if len(keys) > 1 else None]
    early = np.sort(presented[packets.shown[: len(presented)] & (presented < presented[keys[0]])])
    return len(early) if np.array_equal(early, stamps[: len(early)]) else 0


def _parts(decoded: np.ndarray) -> np.ndarray:
    """The number of the part that each packet belongs to, where a clock goes back between parts."""
    return np.cumsum(np.diff(decoded, prepend=decoded[0]) < -BACK)


def _missing(opened: OpenVideo, packets: int, seconds: float) -> int:
    """How many packets a file announces that are not in it. What headers say of frames and seconds is often wrong of
    files that are whole, so it counts only where a file says itself that it lacks its end."""
    container, stream, _, file = opened
    if "mp4" in container.format.name:
        return max(0, len(stream.index_entries) - packets)
    if not is_cut_off(file):
        return 0
    of_frames = float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    announced = max(of_frames, (container.duration or 0) / av.time_base)
    return max(0, round(announced * (packets - 1) / seconds) - packets) if seconds else 0
