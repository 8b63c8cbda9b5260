"""Opening videos, in one way for whatever reads them, and within limits.

FFmpeg gets a file's content and never its name, which it could take for an address, and it can open nothing else. What
titles and the like are encoded in is ignored: nobody reads them here.
"""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
from av.codec.codec import Capabilities
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vjepa_mlflow.files.reading import open_regular
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.gpu_codecs import gpu_codec
from vjepa_mlflow.video.limits import OWN_FILES, Limits

ON_GPU = "cuda"
"""FFmpeg's name of the format of frames that are on a GPU."""

UNPROBED = {"probesize": "32", "skip_frame": "all"}
"""FFmpeg's options by which it does not decode the first frames of a file when it opens it; those of a large video take
longer than all else."""

LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""For titles. PyAV 19 takes any encoding, and has the option no longer."""

INDIRECT = (
    "concat",
    "dash",
    "hls",
    "image2",
    "imf",
    "lavfi",
    "rtp",
    "rtsp",
    "sap",
    "sdp",
    "webm_dash_manifest",
)
"""FFmpeg's formats whose files are lists of others, or addresses, or programs."""


WHOLE = 8
"""Frames from where decoding begins of which none is left out: where packets are not frames one by one, as in a
broadcast of fields, that shows in them."""


@dataclass(frozen=True)
class Source:
    """A video to be read, and how.

    Attributes:
        video: a file, the content of one, or one that is open for reading.
        limits: within which it is read.
        threads: that decode it.
        lenient: whether a video ends where it cannot be decoded any further; if not, that is an error.
        is_known: whether its frames will be compared with what is known of them, so that FFmpeg need not decode some of
            them to find out how they are ordered.
        gpu: the number of the CUDA GPU whose decoder is used, where its frames stay; None: the processor decodes.
    """

    video: Path | bytes | BinaryIO
    limits: Limits = OWN_FILES
    threads: int = 1
    lenient: bool = False
    is_known: bool = False
    gpu: int | None = None


class OpenVideo(NamedTuple):
    """A video that is open.

    Attributes:
        container: of it.
        stream: that is read.
        codec: what decodes that.
        file: that FFmpeg reads from.
    """

    container: InputContainer
    stream: VideoStream
    codec: VideoCodecContext
    file: BinaryIO

    def seek(self, position: int) -> None:
        """Has decoding begin anew, at the key frame that the container finds for a position."""
        self.container.seek(position, stream=self.stream)
        self.codec.flush_buffers()

    def decode(self, wanted: Collection[int] | None = None, *, since: int | None = None) -> Iterator[VideoFrame]:
        """The stream's frames from where the file stands.

        Args:
            wanted: timestamps of the frames that are needed. After the first `WHOLE` frames, others that no frame
                refers to, as about half are where an encoder takes its time, are left out. None: all are needed.
            since: the timestamp of a key frame that was sought: what comes from before it may need frames that were not
                decoded, and is left out. None: the file stands at its beginning.
        """
        if wanted is None:
            yield from self.container.decode(self.stream)
            return
        count = 0
        for packet in self.container.demux(self.stream):
            self.codec.skip_frame = "DEFAULT" if count < WHOLE or packet.pts in wanted else "NONREF"
            for frame in self.codec.decode(packet):
                if frame.format.name == ON_GPU and frame.is_corrupt:
                    raise av.InvalidDataError(0, "frames of it are damaged")  # of which software makes others
                if since is None or frame.pts is None or frame.pts >= since:
                    count += 1
                    yield frame


@contextmanager
def open_video(source: Source) -> Iterator[OpenVideo]:
    """Opens a video; every FFmpeg error inside the block leaves it as a VideoError.

    Raises:
        VideoError: it is not a video, or not within its limits.
        MemoryError: FFmpeg gets no memory, and the source is lenient.
    """
    limits = source.limits
    try:
        with _open_file(source.video) as file:
            size = file.seek(0, SEEK_END)
            if not size:
                raise VideoError("it is empty")
            limits.check_size(size)
            file.seek(0)
            with _open_container(file, source) as container:
                stream = _choose_stream(container)
                options = _prepare(stream, source)
                own = stream.codec_context
                with nullcontext(own) if source.gpu is None else gpu_codec(own, source.gpu, options) as codec:
                    yield OpenVideo(container, stream, codec, file)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:  # PyAV's own where a file changes its streams
        if source.lenient and isinstance(error, MemoryError):
            raise  # that is not where the video ends
        raise VideoError(f"it cannot be decoded ({getattr(error, 'strerror', None) or error})") from error


def _open_file(video: Path | bytes | BinaryIO) -> AbstractContextManager[BinaryIO]:
    if isinstance(video, bytes):
        return BytesIO(video)
    if not isinstance(video, Path):
        return nullcontext(video)
    try:
        return open_regular(video)
    except FileNotFoundError:
        raise VideoError("there is no such file") from None
    except OSError as error:
        raise VideoError(f"it cannot be opened ({error.strerror})") from error


def _open_container(file: BinaryIO, source: Source) -> InputContainer:
    limits = source.limits
    options = _options(limits) | (UNPROBED if source.is_known else {})
    try:
        container: InputContainer = av.open(file, "r", options=options, **LENIENT)
        return container
    except av.ArgumentError as error:
        expected = f"one of {', '.join(limits.containers)}" if limits.containers else "a file that holds a video itself"
        raise VideoError(f"it is of a format that is not read here: expected {expected} (containers)") from error


@cache
def _options(limits: Limits) -> dict[str, str]:
    """FFmpeg's, which hold for the frames too that it looks at while it opens a file."""
    decoders = [
        codec.name for codec in _software_decoders() if not limits.codecs or codec.canonical_name in limits.codecs
    ]
    containers = limits.containers or [name for name in av.formats_available if _is_direct(name)]
    return {
        "format_whitelist": ",".join(containers),
        "codec_whitelist": ",".join(decoders),
        "protocol_whitelist": "none",
        "max_pixels": str(limits.max_pixels),
    }


def _is_direct(name: str) -> bool:
    with suppress(ValueError):  # of one that is only written
        return not (av.ContainerFormat(name, "r").no_file or set(name.split(",")) & set(INDIRECT))
    return False


def _software_decoders() -> Iterator[av.Codec]:
    for name in av.codecs_available:
        with suppress(ValueError):  # of an encoder
            codec = av.Codec(name, "r")
            if codec.type == "video" and not codec.capabilities & Capabilities.hardware:
                yield codec


def _choose_stream(container: InputContainer) -> VideoStream:
    """The one with the largest pictures, the first of several. FFmpeg's choice depends on what a container tells.

    Stills beside a video, such as those of a phone's motion photos, have far fewer frames, if that is told.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    most = max((stream.frames for stream in streams), default=0)
    streams = [stream for stream in streams if not 0 < stream.frames < most / 10]
    if not streams:
        raise VideoError("it has no video stream")
    if all(stream.codec_context is None for stream in streams):
        raise VideoError("its codec is not one that FFmpeg decodes")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    return max(decodable, key=lambda stream: stream.codec_context.width * stream.codec_context.height)


def _prepare(stream: VideoStream, source: Source) -> dict[str, str]:
    """Has a stream decoded within its limits. Returns FFmpeg's options for whatever decodes it."""
    codec = stream.codec_context
    source.limits.check_codec(codec.codec.canonical_name)
    source.limits.check_pixels(codec.width, codec.height)
    options = {"max_pixels": str(source.limits.max_pixels)}  # frames may grow later on
    codec.options = options
    stream.thread_type, stream.thread_count = "AUTO", source.threads
    return options
