"""What safetensors files say about themselves."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vjepa_mlflow.files.paths import shortened
from vjepa_mlflow.files.reading import open_regular

LARGEST_HEADER = 1 << 24
"""Bytes: a hundred times that of a ViT-g."""

MOST_DIMENSIONS = 8
LARGEST = 1 << 48
"""Sizes and places in a file: products of larger ones take long by themselves."""

_SIZES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
"""Bytes of one value, by the format's name."""

_LENGTH = 8
"""Bytes that the header's length takes."""

_ALIGNMENT = 8
"""Of a header's end, in bytes."""


class StoredTensor(NamedTuple):
    """Where a tensor lies in its file.

    Attributes:
        dtype: as safetensors calls it, such as F32.
        shape: of the tensor.
        begin: of its first byte, from the beginning of the file.
        end: after its last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header(layout: Mapping[str, tuple[str, Sequence[int], int]], metadata: Mapping[str, str]) -> bytes:
    """How a safetensors file begins, before the bytes of its tensors: the header's length, and the header in JSON.

    Args:
        layout: format, shape and bytes of each tensor, in the order in which they follow, without gaps.
        metadata: of the file.
    """
    entries: dict[str, Any] = {"__metadata__": metadata}
    begin = 0
    for name, (dtype, shape, size) in layout.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, begin + size]}
        begin += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH, "little") + text


def read_metadata(content: bytes) -> dict[str, str]:
    """The metadata in a safetensors file's content: its header is JSON, after the header's length in eight bytes.

    Raises:
        ValueError: the content is not such a file's.
    """
    header = json.loads(content[_LENGTH : _LENGTH + int.from_bytes(content[:_LENGTH], "little")])
    return dict(header.get("__metadata__", {}))


def read_layout(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name, in the order in which they lie there, without gaps, to its end.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, or has another size than its header says.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 2 <= length <= min(LARGEST_HEADER, size - _LENGTH):
            raise ValueError(f"a header of {length} bytes in a file of {size}: expected a whole .safetensors file")
        header = _parse(file.read(length))
    begin = _LENGTH + length
    stored = {name: _stored(name, entry, begin) for name, entry in header.items() if name != "__metadata__"}
    ordered = sorted(stored.items(), key=lambda named: named[1][2:])
    for name, tensor in ordered:
        if tensor.begin != begin:
            raise ValueError(f"{shortened(name)} lies at byte {tensor.begin}: expected {begin}")
        begin = tensor.end
    if begin != size:
        raise ValueError(f"{size} bytes: expected {begin}, as its header says")
    return dict(ordered)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError("a header that is no JSON: expected a .safetensors file")
    return header


def _stored(name: str, entry: Any, start: int) -> StoredTensor:
    """What a header says of one tensor, in a file whose tensors start at some byte."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
        proper = len(shape) <= MOST_DIMENSIONS and all(type(one) is int and 0 <= one <= LARGEST for one in numbers)
        if proper and end - begin == math.prod(shape) * _SIZES[dtype]:
            return StoredTensor(dtype, shape, start + begin, start + end)
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"{shortened(name)}: expected a format, a shape and a place that fit each other")
