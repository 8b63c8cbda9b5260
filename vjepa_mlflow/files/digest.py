"""Names made from content."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from vjepa_mlflow.files.reading import open_regular

BLOCK = 1 << 20
"""Bytes read at once."""


def sha256_of_text(text: str) -> str:
    """The SHA-256 of a text, hexadecimal; file names may be in it that are no proper text."""
    return sha256_of(text.encode(errors="surrogateescape"))


def sha256_of(*contents: bytes | memoryview) -> str:
    """The SHA-256 of contents one after the other, hexadecimal."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def sha256_with_parts(files: Iterable[Path]) -> tuple[str, dict[str, str]]:
    """What `sha256` gives for files, and that of each alone by its name; both are read once.

    Raises:
        OSError: see `sha256`.
    """
    whole = hashlib.sha256()
    parts: dict[str, str] = {}
    for path in files:
        part = hashlib.sha256() if parts else whole  # of the first file both are the same
        for block in _blocks(path):
            for digest in {part, whole}:
                digest.update(block)
        parts[path.name] = part.hexdigest()
    return whole.hexdigest(), parts


def sha256(files: Iterable[Path]) -> str:
    """The SHA-256 of the files' contents one after the other, hexadecimal.

    Raises:
        OSError: a file cannot be read, or is none.
    """
    digest = hashlib.sha256()
    for path in files:
        for block in _blocks(path):
            digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with open_regular(path) as file:
        while block := file.read(BLOCK):
            yield block
