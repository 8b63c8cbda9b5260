"""Small files that can be made again: each holds the digest of its content, and is used only if the two agree."""

import functools
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from vjepa_mlflow.files.cache import write_atomically
from vjepa_mlflow.files.digest import sha256_of
from vjepa_mlflow.files.reading import read_bounded

LARGEST = 64 << 20
"""Bytes of a content that is cached."""

SEAL = 64 + 1
"""Bytes before the content: its digest, hexadecimal, and a line's end."""

Values = TypeVar("Values")


def cache_bytes(path: Path, content: bytes, *, within: Path) -> None:
    """Caches a content for `cached_bytes`, where that can be done: without it, work is only done again.

    Args:
        path: the file.
        content: to be cached.
        within: a folder above the file, see `write_atomically`.
    """
    if len(content) <= LARGEST:
        with suppress(OSError):
            write_atomically(path, _seal(path, content), content, within=within)


def cached_bytes(path: Path) -> bytes | None:
    """What `cache_bytes` wrote under this name; None where there is nothing, or anything else."""
    with suppress(OSError, ValueError):
        sealed = read_bounded(path, at_most=SEAL + LARGEST)
        content = sealed[SEAL:]
        if sealed[:SEAL] == _seal(path, content):
            return content
    return None


def _seal(path: Path, content: bytes) -> bytes:
    return f"{sha256_of(path.name.encode(errors='surrogateescape'), content)}\n".encode()


def cache_values(path: Path | None, values: Mapping[str, object], *, within: Path | None) -> None:
    """Caches values for `cached_values`; None stands for no file."""
    if path is not None and within is not None:
        cache_bytes(path, json.dumps(values).encode(), within=within)


def cached_values(path: Path | None, kind: Callable[..., Values]) -> Values | None:
    """What `cache_values` wrote, or None where there is nothing that `kind` can be made of.

    Args:
        path: the file; None stands for none.
        kind: a class of values that are texts or numbers, such as a named tuple.
    """
    content = None if path is None else cached_bytes(path)
    with suppress(ValueError, RecursionError):
        return None if content is None else make(kind, json.loads(content))
    return None


def make(kind: Callable[..., Values], values: Any) -> Values:
    """Makes a class's object of values by name, if they are of the types that it says.

    Raises:
        ValueError: they are not.
    """
    kinds = _kinds(kind)
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        raise ValueError(f"expected the values {', '.join(kinds)}")
    for name, value in values.items():
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: expected another kind of value")
    return kind(**values)


@functools.cache
def _kinds(kind: Callable[..., Any]) -> dict[str, tuple[type, ...]]:
    return {name: (int, float) if one is float else (one,) for name, one in get_type_hints(kind).items()}
