"""Whether a file ends before the end that it announces itself, by a few bytes of each kind."""

import struct
from io import BytesIO

import pytest

from vjepa_mlflow.video.completeness import EBML, FLV_TAG, SEGMENT, UNWRITTEN, is_cut_off


def matroska(announced: bytes, content: int) -> bytes:
    return EBML + b"\x84" + bytes(4) + SEGMENT + announced + bytes(content)


def avi(announced: int, content: int) -> bytes:
    return b"RIFF" + struct.pack("<I", announced) + bytes(content)


def flv(content: int, announced: int) -> bytes:
    tag = b"\x09" + content.to_bytes(3, "big") + bytes(FLV_TAG - 4 + content)
    return b"FLV\x01" + bytes(9) + tag + announced.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("content", "cut_off"),
    [
        (matroska(b"\x90", 16), False),
        (matroska(b"\x90", 15), True),
        (matroska(b"\x40\x10", 15), True),
        (matroska(b"\xff", 0), False),  # live: its size is not known
        (matroska(b"\x01" + b"\xff" * 7, 0), False),
        (avi(20, 20), False),
        (avi(20, 19), True),
        (avi(UNWRITTEN, 19), False),  # written to a pipe
        (flv(30, FLV_TAG + 30), False),
        (flv(30, FLV_TAG + 30)[:-1], True),
        (flv(30, 5), True),
        (b"\x00\x00\x00\x18ftypmp42", False),
        (b"", False),
    ],
)
def test_a_file_lacks_its_end_if_it_says_so_itself(content: bytes, cut_off: bool) -> None:
    assert is_cut_off(BytesIO(content)) is cut_off
