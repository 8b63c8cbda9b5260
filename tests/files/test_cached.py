"""What can be made again is used only if it is what was kept, whatever lies in its place."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import flip, put_pipe

from vjepa_mlflow.files.cached import cache_bytes, cache_values, cached_bytes, cached_values


class Found(NamedTuple):
    name: str
    count: int
    seconds: float


def put_folder(file: Path) -> None:
    file.unlink()
    (file / "inside").mkdir(parents=True)


def make_huge(file: Path) -> None:
    os.truncate(file, 1 << 40)


DAMAGES: list[Callable[[Path], object]] = [
    Path.unlink,
    lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(file.read_bytes()[:-1]),
    lambda file: file.write_bytes(file.read_bytes() + b"x"),
    lambda file: file.rename(file.with_name("other")).rename(file.with_name("note-2")),
    flip,
    put_pipe,
    put_folder,
    make_huge,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_not_recalled_and_may_be_kept_again(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    note = tmp_path / "ab" / "note"
    cache_bytes(note, b"content", within=tmp_path)
    assert cached_bytes(note) == b"content"
    damage(note)
    assert cached_bytes(note) is None
    assert cached_bytes(note.with_name("note-2")) is None  # of another name
    cache_bytes(note, b"content", within=tmp_path)
    assert cached_bytes(note) == (None if note.is_dir() else b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["ab"]


@pytest.mark.parametrize(
    "values",
    [
        {"name": "a", "count": 1},
        {"name": "a", "count": 1, "seconds": 2.0, "more": 3},
        {"name": 1, "count": 1, "seconds": 2.0},
        {"name": "a", "count": True, "seconds": 2.0},
        {"name": "a", "count": 1.5, "seconds": 2.0},
        {"name": "a", "count": 1, "seconds": None},
    ],
)
def test_a_note_of_other_values_is_none(tmp_path: Path, values: dict[str, object]) -> None:
    cache_values(tmp_path / "note", values, within=tmp_path)
    assert cached_bytes(tmp_path / "note") is not None
    assert cached_values(tmp_path / "note", Found) is None


def test_a_note_is_read(tmp_path: Path) -> None:
    cache_values(tmp_path / "note", Found("a", 1, 2)._asdict(), within=tmp_path)
    assert cached_values(tmp_path / "note", Found) == Found("a", 1, 2)
    assert cached_values(None, Found) is None
