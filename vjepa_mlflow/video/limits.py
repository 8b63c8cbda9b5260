"""What a video may be, and may cost: one policy for one's own files, another for strangers'."""

import math
from dataclasses import dataclass, fields, replace

from vjepa_mlflow.video.error import VideoError

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

ANY: tuple[str, ...] = ()
"""Every codec that FFmpeg decodes, or every container that is not a list of other files."""


@dataclass(frozen=True)
class Limits:
    """Beyond which a video is refused. The defaults are a server's.

    Attributes:
        max_video_bytes: of a file.
        max_frames: of a video.
        max_pixels: of a frame.
        max_aspect_ratio: of a frame's longer side to its shorter one, which decides how large it is after resizing.
        max_seconds: that a video lasts.
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

    def for_own_files(self) -> "Limits":
        """Those of `OWN_FILES` in place of all that are a server's defaults."""
        own = {
            field.name: getattr(OWN_FILES, field.name)
            for field in fields(self)
            if getattr(self, field.name) == field.default
        }
        return replace(self, **own)

    def check_size(self, size: int) -> None:
        """Refuses a file of too many bytes.

        Raises:
            VideoError: says how many there are. So do the others.
        """
        if size > self.max_video_bytes:
            raise VideoError(f"it has {size} bytes: expected at most {self.max_video_bytes} (max_video_bytes)")

    def check_codec(self, name: str) -> None:
        """Refuses a codec that is not among those that are decoded."""
        if self.codecs and name not in self.codecs:
            raise VideoError(f"its codec is {name}: expected one of {', '.join(self.codecs)} (codecs)")

    def check_pixels(self, width: int, height: int) -> None:
        """Refuses frames of too many pixels."""
        if width * height > self.max_pixels:
            raise VideoError(
                f"its frames have {width}x{height} pixels: expected at most {self.max_pixels} in all (max_pixels)"
            )

    def check_frames(self, num_frames: int) -> None:
        """Refuses a video of too many frames."""
        if num_frames > self.max_frames:
            raise VideoError(f"it has {num_frames} frames: expected at most {self.max_frames} (max_frames)")

    def check_seconds(self, seconds: float) -> None:
        """Refuses a video that lasts too long."""
        if seconds > self.max_seconds:
            raise VideoError(f"it lasts {seconds:.0f} s: expected at most {self.max_seconds:g} (max_seconds)")

    def check_shape(self, width: int, height: int) -> None:
        """Refuses frames that would become huge when their shorter side is resized."""
        if max(height, width) > self.max_aspect_ratio * min(height, width):
            raise VideoError(
                f"its frames have {width}x{height} pixels: expected a side to be at most {self.max_aspect_ratio:g} "
                f"times as long as the other (max_aspect_ratio)"
            )


OWN_FILES = Limits(
    max_video_bytes=2**62,
    max_frames=100_000_000,
    max_pixels=2**26,
    max_aspect_ratio=100.0,
    max_seconds=math.inf,
    max_decode_seconds=600.0,
    containers=ANY,
    codecs=ANY,
)
"""For whoever reads files of their own. What is left keeps one file from taking a machine's memory, or all night."""
