"""Decoded frames to upright RGB, or to the planes that they consist of and how these become RGB."""

from contextlib import suppress
from functools import cache
from typing import NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from vjepa_mlflow.video.gpu_copies import copy_from_gpu
from vjepa_mlflow.video.opening import ON_GPU

BT_601 = (104597, 132201, 25675, 53279)
MATRICES = {
    1: (117489, 138438, 13975, 34925),  # BT.709
    4: (104448, 132798, 24759, 53109),  # FCC
    7: (117579, 136230, 16907, 35559),  # SMPTE 240M
    9: (110013, 140363, 12277, 42626),  # BT.2020
}
"""How much of Cr is red, of Cb blue, and of Cb and Cr green, in 65536ths, by ITU-T H.273's number of the matrix, as in
FFmpeg's `ff_yuv2rgb_coeffs`. All others are BT.601's."""

JPEG = 2
"""FFmpeg's number of the range in which luma is from 0 to 255, and not from 16 to 235."""

PLANAR = {"yuv420p": False, "yuvj420p": True}
"""Formats of 8 bits and a quarter of the colour, and whether they are of that range by their names."""

PROVED_ON = 256
"""Pixels of the side of the frame that the integers are compared on."""


class Turn(NamedTuple):
    """What brings a picture upright: first its axes are swapped, then its columns or rows are mirrored."""

    swaps_axes: bool = False
    mirrors_columns: bool = False
    mirrors_rows: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Turns an image of shape (height, width, 3)."""
        if self.swaps_axes:
            image = image.swapaxes(0, 1)
        if self.mirrors_columns:
            image = image[:, ::-1]
        return image[::-1] if self.mirrors_rows else image


_QUARTERS = (Turn(), Turn(True, mirrors_rows=True), Turn(False, True, True), Turn(True, mirrors_columns=True))
"""None, one, two and three quarters to the left."""


def read_turn(frame: VideoFrame) -> Turn:
    """From the frame's display matrix (ISO/IEC 14496-12, section 6.2.2): x' = ax + cy and y' = bx + dy."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV refuses all of it where FFmpeg knows more kinds than it has names for, as of EXIF
        return _QUARTERS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return Turn()
    a, b, _, c, d, *_ = np.frombuffer(matrix, dtype=np.int32).astype(float)  # type: ignore[call-overload]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(mirrors_columns=a < 0, mirrors_rows=d < 0)
    return Turn(swaps_axes=True, mirrors_columns=c < 0, mirrors_rows=b < 0)


class Painter:
    """Converts the frames of one video: making its tables costs more than converting a frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: VideoFrame, turn: Turn, shape: tuple[int, int] | None = None) -> np.ndarray:
        """uint8 RGB of shape (height, width, 3), turned and mirrored, which PyAV does not do.

        A stream may change its frame size on the way (WebRTC recordings do).

        Args:
            frame: as it was decoded.
            turn: brings it upright.
            shape: height and width of the upright first frame, whose size holds; None for the frame's own.
        """
        own = (frame.height, frame.width)
        height, width = own if shape is None else shape[::-1] if turn.swaps_axes else shape
        # One thread, since videos are read side by side already.
        converted = self._reformatter.reformat(frame, format="rgb24", threads=1, width=width, height=height)
        return turn.apply(converted.to_ndarray())


class Kind(NamedTuple):
    """What decides how a frame is converted.

    Attributes:
        height: as it was decoded, in pixels.
        width: likewise.
        format: FFmpeg's name of the pixels' format.
        matrix: ITU-T H.273's number.
        range: FFmpeg's number.
        interlaced: whether its lines are two fields', which are converted apart.
    """

    height: int
    width: int
    format: str
    matrix: int
    range: int
    interlaced: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "Kind":
        pixels, matrix, colour_range = frame.format.name, int(frame.colorspace), int(frame.color_range)
        return cls(frame.height, frame.width, pixels, matrix, colour_range, frame.interlaced_frame)

    @property
    def interleaved(self) -> bool:
        """Whether the frame's Cb and Cr take turns, as they do in what a GPU decodes."""
        return self.format == ON_GPU

    def colours(self) -> "Colours | None":
        """How planes of this kind become RGB, where that is known to the last bit; None where it is not."""
        if self.width % 2 or self.height % 2 or self.interlaced:
            return None
        return _colours("yuv420p" if self.format == ON_GPU else self.format, self.matrix, self.range)


class Colours(NamedTuple):
    """The integers with which swscale makes RGB of Y, Cb and Cr of 8 bits, of which the last two are four pixels'.

    As its code for x86 does ("yuv_2_rgb.asm"), for which `_colours` asks it: a value is moved by what black or no
    colour is, times 8, and multiplied by a factor of 13 bits, and the lowest 16 bits of the product are dropped.

    Attributes:
        black: luma's, times 8.
        luma: the factor of it.
        red: of Cr.
        blue: of Cb.
        green_blue: of Cb in green.
        green_red: of Cr in green.
    """

    black: int
    luma: int
    red: int
    blue: int
    green_blue: int
    green_red: int

    @classmethod
    def of(cls, matrix: int, *, full: bool) -> "Colours":
        red, blue, green_blue, green_red = MATRICES.get(matrix, BT_601)
        shares = [red, blue, -green_blue, -green_red]
        if full:
            shares = [int(share * 224 / 255) for share in shares]
        factors = [(share + 4) >> 3 for share in [(1 << 16) if full else (1 << 16) * 255 // 219, *shares]]
        return cls(0 if full else 16 << 3, *(min(factor, (1 << 15) - 1) for factor in factors))


@cache
def _colours(pixel_format: str, matrix: int, colour_range: int) -> Colours | None:
    """What swscale does here with such frames, if that is what `Colours` says: other processors have other code."""
    if pixel_format not in PLANAR:
        return None
    colours = Colours.of(matrix, full=PLANAR[pixel_format] or colour_range == JPEG)
    side = PROVED_ON
    planes = np.random.default_rng(0).integers(0, 256, side * side * 3 // 2, np.uint8)
    frame = VideoFrame(side, side, pixel_format)
    frame.colorspace, frame.color_range = matrix, colour_range
    for plane, values in zip(frame.planes, split_planes(planes, side, side), strict=True):
        _rows(plane, len(values))[:, : values.shape[1]] = values
    with suppress(av.FFmpegError):  # of what swscale converts in no way
        converted = Painter().rgb(frame, Turn())
        return colours if np.array_equal(converted, to_rgb(planes, side, side, colours)) else None
    return None


def to_rgb(planes: np.ndarray, height: int, width: int, colours: Colours, interleaved: bool = False) -> np.ndarray:
    """What `Colours` says, in NumPy, which is slow: uint8 RGB of shape (height, width, 3), as it was decoded."""
    y, cb, cr = (values.astype(np.int32) << 3 for values in split_planes(planes, height, width, interleaved))
    luma = (y - colours.black) * colours.luma >> 16
    cb, cr = cb - (128 << 3), cr - (128 << 3)
    shares = [
        cr * colours.red >> 16,
        (cb * colours.green_blue >> 16) + (cr * colours.green_red >> 16),
        cb * colours.blue >> 16,
    ]
    return np.stack([luma + share.repeat(2, 0).repeat(2, 1) for share in shares], -1).clip(0, 255).astype(np.uint8)


def split_planes(values: np.ndarray, height: int, width: int, interleaved: bool = False) -> list[np.ndarray]:
    """Y, Cb and Cr, without a copy.

    Args:
        values: of shape (height * width * 3 // 2,): the planes one after the other.
        height: of Y.
        width: of Y.
        interleaved: whether Cb and Cr take turns, value by value.
    """
    luma, colours = values[: height * width].reshape(height, width), values[height * width :]
    if interleaved:
        pairs = colours.reshape(height // 2, width // 2, 2)
        return [luma, pairs[..., 0], pairs[..., 1]]
    return [luma, *colours.reshape(2, height // 2, width // 2)]


def copy_planes(frame: VideoFrame, values: np.ndarray) -> None:
    """Copies a frame's planes, from a GPU too, to uint8 values of shape (height * width * 3 // 2,)."""
    if frame.format.name == ON_GPU:
        copy_from_gpu(frame, values)
        return
    for plane, rows in zip(frame.planes, split_planes(values, frame.height, frame.width), strict=True):
        rows[:] = _rows(plane, plane.height)[:, : plane.width]


def _rows(plane: object, height: int) -> np.ndarray:
    values = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]
    return values.reshape(-1, plane.line_size)[:height]  # type: ignore[attr-defined]
