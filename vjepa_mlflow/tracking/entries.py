"""What lies in an outbox: entries, and notes beside them. None of it can be made again: what is damaged stays."""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vjepa_mlflow.errors import one_line
from vjepa_mlflow.files.cache import write_atomically
from vjepa_mlflow.files.cached import make
from vjepa_mlflow.files.digest import sha256, sha256_of
from vjepa_mlflow.files.reading import read_bounded
from vjepa_mlflow.files.temporary import PREFIX

ENTRY, CONTENT = "entry.json", "content"
SEAL = b"sha256 "
"""What the second line of a sealed file begins with; older versions wrote one line."""

LARGEST = 256 << 20
"""Bytes of a sealed file."""

COUNTED = 10**12
"""Numbers of entries below it come from older versions."""

_NAME = re.compile(r"(\d+)-(\w+)")

Note = TypeVar("Note")


class DamageError(Exception):
    """Something in an outbox is not as it was left there: a sentence that names it and says what is wrong."""


def write_entry(entry: Path, values: Mapping[str, Any], content: Path | bytes | None) -> None:
    """Writes an entry, which appears complete or not at all.

    Args:
        entry: its folder.
        values: in JSON; with a content there is a `name` among them.
        content: of the file, or a file or folder, which is copied, or linked where that is the same.

    Raises:
        OSError: there is no room for it; nothing of it is left.
    """
    temporary = entry.with_name(f"{PREFIX}{entry.name}")
    try:
        temporary.mkdir()
        linked = content is not None and _place(content, content_path(temporary, values["name"]))
        write_about(temporary / ENTRY, values, temporary / CONTENT, digested=not linked)
        temporary.rename(entry)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_entry(entry: Path) -> tuple[str, dict[str, Any]]:
    """An entry's kind, and what it says.

    Raises:
        DamageError: it, or its content, is not what was left.
    """
    try:
        return kind_of(entry), read_about(entry / ENTRY, entry / CONTENT)
    except FileNotFoundError:
        raise DamageError(f"{entry / ENTRY}: is missing") from None


def entries(folder: Path) -> list[Path]:
    """The entries in a folder, whole or not, in the order in which they came."""
    return sorted((path for path in folder.iterdir() if is_entry(path)), key=number_of)


def is_entry(path: Path) -> bool:
    """Whether something has an entry's name."""
    return _NAME.fullmatch(path.name) is not None


def number_of(entry: Path) -> int:
    return int(entry.name.partition("-")[0])


def kind_of(entry: Path) -> str:
    return entry.name.partition("-")[2]


def place_for(entry: Path, folder: Path) -> Path:
    """Where an entry goes in another folder. Older versions counted from 1 in each: theirs are put in order by time."""
    number = number_of(entry)
    number = number if number > COUNTED else entry.stat().st_mtime_ns
    while (place := folder / f"{number}-{kind_of(entry)}").exists():
        number += 1
    return place


def content_path(entry: Path, name: str) -> Path:
    """Where an entry has the file or folder that is logged as the artifact `name`: under the last part of it."""
    return entry / CONTENT / name.rpartition("/")[2]


def _place(content: Path | bytes, path: Path) -> bool:
    """Brings a content to its place; whether it is linked there."""
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content.is_dir():
        shutil.copytree(content, path)
    else:
        try:
            os.link(content, path)  # of what is replaced as a whole and never changed
        except OSError:  # on another disk
            shutil.copyfile(content, path)
        return True
    return False


def write_about(note: Path, values: Mapping[str, Any], root: Path, *, digested: bool = True) -> None:
    """Writes values, and what the files below a folder are, for `read_about`.

    Args:
        note: the file.
        values: in JSON.
        root: the folder, which need not be there.
        digested: whether the files' digests are noted beside their sizes; what is linked has one inside.
    """
    files = {
        str(path.relative_to(root)): [path.stat().st_size, sha256([path]) if digested else ""]
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    write_sealed(note, {"values": values, "files": files})


def read_about(note: Path, root: Path) -> dict[str, Any]:
    """The values that `write_about` wrote, if the files are still what they were then.

    Raises:
        FileNotFoundError: there is no note.
        DamageError: it, or a file, is not what was written.
    """
    content, is_sealed = _read(note)
    if not is_sealed:  # by an older version, which noted nothing of the files
        _check_kinds(root)
        return content
    for name, (size, digest) in content["files"].items():
        _check_file(root / name, size, digest)
    return dict(content["values"])


def _check_file(path: Path, size: int, digest: str) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DamageError(f"{path}: is no file any more")
        if status.st_size != size:
            raise DamageError(f"{path}: has {status.st_size} bytes: expected {size}")
        if digest and sha256([path]) != digest:
            raise DamageError(f"{path}: was changed after it was written (its SHA-256 is another one)")
    except FileNotFoundError:
        raise DamageError(f"{path}: is missing") from None
    except OSError as error:
        raise DamageError(f"{path}: cannot be read ({error.strerror})") from None


def _check_kinds(root: Path) -> None:
    """Refuses what would be waited for for ever."""
    for path in root.rglob("*"):
        if not (path.is_file() or path.is_dir()):
            raise DamageError(f"{path}: is no file")


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Writes values as a line of JSON, and its digest as the second line."""
    text = json.dumps(values).encode()
    write_atomically(path, text, b"\n", SEAL, sha256_of(text).encode(), b"\n")


def read_sealed(path: Path, kind: Callable[..., Note]) -> Note:
    """What `write_sealed`, or an older version, wrote, as an object of this class.

    Raises:
        FileNotFoundError: there is no such file.
        DamageError: it is not what was written.
    """
    try:
        return make(kind, _read(path)[0])
    except ValueError as error:
        raise DamageError(f"{path}: is damaged ({one_line(error)})") from None


def _read(path: Path) -> tuple[dict[str, Any], bool]:
    """The values of a file, and whether their digest stands there, too."""
    try:
        text, _, seal = read_bounded(path, at_most=LARGEST).partition(b"\n")
        if seal and seal != SEAL + sha256_of(text).encode() + b"\n":
            raise ValueError("it was changed after it was written")
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it holds no values by name")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamageError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{path}: is damaged ({one_line(error)})") from None
    return values, bool(seal)
