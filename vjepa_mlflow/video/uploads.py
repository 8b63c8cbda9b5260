"""Videos from strangers, opened and held to their limits."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import av
from av.codec.codec import Capabilities
from av.container import InputContainer
from av.video.stream import VideoStream

from vjepa_mlflow.video.container import open_container
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.limits import Limits, Upload

THREADS = 4
"""That decode an upload, which may be the only one, and is waited for."""


def open_upload(upload: Upload) -> InputContainer:
    """Opens an upload as a video of one of the formats that are allowed; nothing else is tried.

    Raises:
        VideoError: it is a video of another format.
        av.FFmpegError: it is none.
    """
    upload.file.seek(0)
    try:
        return open_container(upload.file, _options(upload.limits))
    except av.ArgumentError as error:
        raise VideoError(f"it is a video of none of the formats {', '.join(upload.limits.containers)}") from error


@cache
def _options(limits: Limits) -> dict[str, str]:
    """FFmpeg's, which hold for the frames too that it looks at while it opens a file."""
    decoders = [codec.name for codec in _software_decoders() if codec.canonical_name in limits.codecs]
    return {
        "format_whitelist": ",".join(limits.containers),
        "codec_whitelist": ",".join(decoders),
        "protocol_whitelist": "none",
        "max_pixels": str(limits.max_pixels),
    }


def _software_decoders() -> Iterator[av.Codec]:
    for name in av.codecs_available:
        with suppress(ValueError):  # of an encoder
            codec = av.Codec(name, "r")
            if codec.type == "video" and not codec.capabilities & Capabilities.hardware:
                yield codec


def prepare_stream(stream: VideoStream, limits: Limits) -> None:
    """Makes a stream ready to be decoded within limits.

    Raises:
        VideoError: what its header says is beyond them.
    """
    codec = stream.codec_context
    if codec.codec.canonical_name not in limits.codecs:
        raise VideoError(f"its codec is {codec.codec.canonical_name}: expected one of {', '.join(limits.codecs)}")
    if codec.width * codec.height > limits.max_pixels:
        raise VideoError(
            f"its frames have {codec.width}x{codec.height} pixels: expected at most {limits.max_pixels} in all "
            "(max_pixels)"
        )
    codec.options = {"max_pixels": str(limits.max_pixels)}  # frames may grow later on
    stream.thread_type, stream.thread_count = "AUTO", THREADS


def check_length(num_frames: int, seconds: float, limits: Limits) -> None:
    """Refuses a video that is too long.

    Raises:
        VideoError: says how long it is.
    """
    if num_frames > limits.max_frames:
        raise VideoError(f"it has {num_frames} frames: expected at most {limits.max_frames} (max_frames)")
    if seconds > limits.max_seconds:
        raise VideoError(f"it lasts {seconds:.0f} s: expected at most {limits.max_seconds:.0f} (max_seconds)")


def check_shape(clip: tuple[int, ...], limits: Limits) -> None:
    """Refuses frames that would become huge when their shorter side is resized.

    Args:
        clip: its shape, (frames, height, width, 3).
        limits: of the video.

    Raises:
        VideoError: says which frames they are.
    """
    height, width = clip[1:3]
    if max(height, width) > limits.max_aspect_ratio * min(height, width):
        raise VideoError(
            f"its frames have {width}x{height} pixels: expected a side to be at most {limits.max_aspect_ratio:g} times "
            f"as long as the other (max_aspect_ratio)"
        )
