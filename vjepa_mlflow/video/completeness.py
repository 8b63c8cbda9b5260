"""Whether a file ends before the end that it announces itself."""

import struct
from collections.abc import Callable
from io import SEEK_END
from typing import BinaryIO

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""The identifiers of Matroska's and WebM's first two elements."""

UNWRITTEN = 2**30
"""Bytes of a RIFF chunk of AVI from which on they are a placeholder: what was written to a pipe never gets its size."""

FLV_TAG, FLV_BACK = 11, 4
"""Bytes of the header of a tag in FLV, and of the number behind each that says how long the tag was."""


def is_cut_off(file: BinaryIO) -> bool:
    """Whether a Matroska, WebM, AVI or FLV file lacks its end. Of others, and of live recordings, it is not known.

    Args:
        file: open for reading; its position is moved.
    """
    size = file.seek(0, SEEK_END)
    file.seek(0)
    start = file.read(64)
    return any(start.startswith(mark) and says(file, start, size) for mark, says in _KINDS.items())


def _matroska_is_cut_off(file: BinaryIO, start: bytes, size: int) -> bool:
    """By the size of its segment (RFC 8794, section 6), which live recordings leave unknown."""
    header_end = _ebml_end(start, len(EBML)) or 0
    file.seek(header_end)
    segment = file.read(16)
    end = _ebml_end(segment, len(SEGMENT)) if segment.startswith(SEGMENT) else None
    return end is not None and header_end + end > size


def _ebml_end(data: bytes, at: int) -> int | None:
    """Where an element ends whose size begins there, in 1 to 8 bytes, whose leading zero bits say how many."""
    width = 9 - data[at].bit_length()
    most = (1 << 7 * width) - 1
    value = int.from_bytes(data[at : at + width], "big") & most
    return None if value == most else at + width + value


def _avi_is_cut_off(file: BinaryIO, start: bytes, size: int) -> bool:  # noqa: ARG001
    announced = int(struct.unpack_from("<I", start, 4)[0])
    return announced < UNWRITTEN and 8 + announced > size


def _flv_is_cut_off(file: BinaryIO, start: bytes, size: int) -> bool:  # noqa: ARG001
    """By the last tag, whose length stands before it and behind it."""
    file.seek(-FLV_BACK, SEEK_END)
    length = int.from_bytes(file.read(FLV_BACK), "big")
    if not FLV_TAG <= length <= size - FLV_BACK:
        return True
    file.seek(size - FLV_BACK - length)
    return int.from_bytes(file.read(4)[1:], "big") != length - FLV_TAG


_KINDS: dict[bytes, Callable[[BinaryIO, bytes, int], bool]] = {
    EBML: _matroska_is_cut_off,
    b"RIFF": _avi_is_cut_off,
    b"FLV": _flv_is_cut_off,
}
