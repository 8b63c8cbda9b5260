"""What a video from a stranger may be, and may cost."""

from dataclasses import dataclass
from typing import BinaryIO

CONTAINERS = (
    "3gp",
    "asf",
    "avi",
    "flv",
    "gif",
    "matroska",
    "mov",
    "mp4",
    "mpeg",
    "mpegts",
    "mxf",
    "ogg",
    "webm",
)
"""By FFmpeg's names. None of them is a list of other files, and what they may refer to is never opened."""

CODECS = (
    "av1",
    "dnxhd",
    "dvvideo",
    "ffv1",
    "flv1",
    "gif",
    "h263",
    "h264",
    "hevc",
    "mjpeg",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "msmpeg4v2",
    "msmpeg4v3",
    "prores",
    "rawvideo",
    "theora",
    "vc1",
    "vp8",
    "vp9",
    "wmv1",
    "wmv2",
    "wmv3",
)
"""By FFmpeg's names of the formats, whichever of its decoders reads them."""


@dataclass(frozen=True)
class Limits:
    """Beyond which a video is refused.

    Attributes:
        max_video_bytes: of a file.
        max_frames: of a video, as its header says.
        max_pixels: of a frame.
        max_aspect_ratio: of a frame's longer side to its shorter one, which decides how large it is after resizing.
        max_seconds: that a video lasts, as its header says.
        max_decode_seconds: that reading a video's clips takes.
        containers: that are read.
        codecs: that are decoded.
    """

    max_video_bytes: int = 128 * 2**20
    max_frames: int = 1_000_000
    max_pixels: int = 4096 * 2304
    max_aspect_ratio: float = 16.0
    max_seconds: float = 4 * 3600.0
    max_decode_seconds: float = 20.0
    containers: tuple[str, ...] = CONTAINERS
    codecs: tuple[str, ...] = CODECS


@dataclass(frozen=True)
class Upload:
    """A video from a stranger.

    Attributes:
        file: its content, open for reading.
        limits: within which it is read.
    """

    file: BinaryIO
    limits: Limits
