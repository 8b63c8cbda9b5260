"""What can be made again is used only if it is what was kept, whatever lies in its place."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import flip, put_pipe

from vjepa_mlflow.files.kept import keep, read_note, recall, write_note


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
    keep(note, b"content", within=tmp_path)
    assert recall(note) == b"content"
    damage(note)
    assert recall(note) is None
    assert recall(note.with_name("note-2")) is None  # of another name
    keep(note, b"content", within=tmp_path)
    assert recall(note) == (None if note.is_dir() else b"content")
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
    write_note(tmp_path / "note", values, within=tmp_path)
    assert recall(tmp_path / "note") is not None
    assert read_note(tmp_path / "note", Found) is None


def test_a_note_is_read(tmp_path: Path) -> None:
    write_note(tmp_path / "note", Found("a", 1, 2)._asdict(), within=tmp_path)
    assert read_note(tmp_path / "note", Found) == Found("a", 1, 2)
    assert read_note(None, Found) is None
