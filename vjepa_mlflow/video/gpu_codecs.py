"""Decoders on a GPU, kept from one video to the next: making one takes as long as decoding a hundred frames."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import NamedTuple

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from vjepa_mlflow.video.error import VideoError

EXACT = ("h264", "hevc", "vp8", "vp9")
"""Codecs whose standards leave a decoder no choice. In MPEG-2 and MPEG-4 each may round in its own way, and in AV1 each
may make a film's grain in its own: that one frame is the same would prove nothing there."""


class _Parameters(NamedTuple):
    """What a decoder is made with, of which it gives the same for the same packets."""

    gpu: int
    codec: str
    width: int
    height: int
    extradata: bytes
    colorspace: int
    color_range: int
    options: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, codec: VideoCodecContext, gpu: int, options: Mapping[str, str]) -> "_Parameters":
        return cls(
            gpu,
            codec.codec.canonical_name,
            codec.width,
            codec.height,
            bytes(codec.extradata or b""),
            int(codec.colorspace),
            int(codec.color_range),
            tuple(options.items()),
        )


_KEPT: dict[_Parameters, VideoCodecContext] = {}
"""The decoder that this process used last, if it can be used again."""


@contextmanager
def gpu_codec(codec: VideoCodecContext, gpu: int, options: Mapping[str, str]) -> Iterator[VideoCodecContext]:
    """A decoder on a GPU for a stream's packets, which starts anew.

    Args:
        codec: the stream's own.
        gpu: number of a CUDA GPU.
        options: FFmpeg's.

    Raises:
        VideoError: a GPU does not decode such streams, or may do so in another way.
    """
    parameters = _Parameters.of(codec, gpu, options)
    if parameters.codec not in EXACT:
        raise VideoError(f"decoders of {parameters.codec} may differ")
    idle = _KEPT.pop(parameters, None)
    _KEPT.clear()  # before another one takes memory
    used = idle or _make(parameters)
    used.flush_buffers()
    is_sound = False
    try:
        yield used
        is_sound = True
    except GeneratorExit:  # whoever reads its frames has enough
        is_sound = True
        raise
    finally:
        if is_sound:
            _KEPT[parameters] = used


def _make(parameters: _Parameters) -> VideoCodecContext:
    codec = CodecContext.create(parameters.codec, "r", hwaccel=_hardware(parameters.gpu))
    if not isinstance(codec, VideoCodecContext) or not codec.is_hwaccel:
        raise VideoError(f"a GPU does not decode {parameters.codec}")
    codec.width, codec.height = parameters.width, parameters.height
    codec.colorspace, codec.color_range = parameters.colorspace, parameters.color_range
    if parameters.extradata:
        codec.extradata = parameters.extradata
    codec.options = dict(parameters.options)
    codec.thread_count = 1
    return codec


@cache
def _hardware(gpu: int) -> HWAccel:
    """What has FFmpeg decode on a GPU, or not at all."""
    hardware = HWAccel("cuda", device=str(gpu), allow_software_fallback=False, is_hw_owned=True)
    with suppress(NotImplementedError):  # then software decodes
        _CONTEXTS.append(hardware.create(av.Codec("h264", "r")))
    return hardware


_CONTEXTS: list[HWAccel] = []
"""Contexts on GPUs, each of which would else go and be made again with each decoder."""
