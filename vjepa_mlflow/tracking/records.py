"""Records as TensorFlow writes them, and TensorBoard reads them.

TensorBoard's own writer goes through them byte by byte, in Python: half a second for the pictures of a run.
"""

import math
import struct

import numpy as np

_POLYNOMIAL = 0x82F63B78
"""Of CRC-32C, its bits reversed."""

_ALL = 0xFFFFFFFF
_MASK = 0xA282EAD8
"""Is added to a checksum, so that one of what holds checksums differs from them."""

_BITS = np.left_shift(1, np.arange(32, dtype=np.uint32), dtype=np.uint32)


def _byte_table() -> np.ndarray:
    """What eight steps make of each byte, of shape (256,)."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ _POLYNOMIAL, values >> 1).astype(np.uint32)
    return values


_TABLE = _byte_table()


def record(content: bytes) -> bytes:
    """A content of at least 4 bytes, with its length before it and checksums of both."""
    length = struct.pack("<Q", len(content))
    return b"".join([length, _checksum(length), content, _checksum(content)])


def _checksum(content: bytes) -> bytes:
    crc = crc32c(content)
    rotated = (crc >> 15 | crc << 17) & _ALL
    return struct.pack("<I", rotated + _MASK & _ALL)


def crc32c(content: bytes) -> int:
    """The CRC-32C of at least 4 bytes, of which rows are gone through side by side.

    A checksum is linear: that of rows one after the other is that of the last one, and what a row of zeros makes of
    that of the others.
    """
    length = math.isqrt(len(content)) + 1
    rows = math.ceil(len(content) / length)
    table = np.zeros((rows + len(_BITS), length), dtype=np.uint8)
    used = table[:rows].reshape(-1)[-len(content) :]  # zeros in front change nothing
    used[:] = np.frombuffer(content, dtype=np.uint8)
    used[:4] ^= 0xFF  # it begins with all bits set
    states = np.concatenate([np.zeros(rows, dtype=np.uint32), _BITS])
    for column in np.ascontiguousarray(table.T):
        states = _TABLE[(states ^ column) & 0xFF] ^ states >> 8
    of_rows, of_bits = states[:rows], states[rows:]
    crc = 0
    for state in of_rows:
        crc = int(state ^ np.bitwise_xor.reduce(of_bits[(_BITS & np.uint32(crc)) != 0]))
    return crc ^ _ALL
