"""Entries and notes: written whole or not at all, and read as they were left."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import flip

from vjepa_mlflow.tracking.entries import (
    COUNTED,
    DamageError,
    content_path,
    entries,
    place_for,
    read_about,
    read_entry,
    read_sealed,
    write_about,
    write_entry,
    write_sealed,
)


@dataclass(frozen=True)
class Note:
    status: str


def test_an_entry_is_read_as_it_was_written_with_its_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("a")
    contents = {"bytes": b"bytes", "file": tmp_path / "file", "folder": tmp_path / "folder"}
    for number, (name, content) in enumerate(contents.items()):
        entry = tmp_path / f"{number}-files"
        write_entry(entry, {"name": f"here/{name}"}, content)
        assert read_entry(entry) == ("files", {"name": f"here/{name}"})
    file = content_path(tmp_path / "1-files", "here/file")
    folder = content_path(tmp_path / "2-files", "here/folder")
    assert file.samefile(tmp_path / "file")  # linked, since it is only replaced
    assert (folder / "a").read_text() == "a"
    assert not (folder / "a").samefile(tmp_path / "folder" / "a")


def test_nothing_is_left_of_an_entry_that_could_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_entry(tmp_path / "1-files", {"name": "a"}, tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_entries_come_by_their_numbers_and_nothing_else_is_one(tmp_path: Path) -> None:
    for name in ("10-batch", "9-files", "lock", ".1-batch", "1-batch.json"):
        (tmp_path / name).mkdir()
    assert [entry.name for entry in entries(tmp_path)] == ["9-files", "10-batch"]


def test_an_entry_keeps_its_number_in_another_folder_and_gets_one_by_time_where_it_was_counted(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    numbered, counted = tmp_path / f"{COUNTED + 1}-batch", tmp_path / "3-batch"
    counted.mkdir()
    assert place_for(numbered, folder) == folder / f"{COUNTED + 1}-batch"
    place = place_for(counted, folder)
    assert place.name == f"{counted.stat().st_mtime_ns}-batch"
    place.mkdir()
    assert place_for(counted, folder).name == f"{counted.stat().st_mtime_ns + 1}-batch"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"longer than it was"), "has 18 bytes: expected 4"),
        (flip, "was changed after it was written"),
        (Path.unlink, "is missing"),
        (lambda file: (file.unlink(), file.mkdir()), "is no file any more"),
    ],
    ids=["size", "digest", "missing", "folder"],
)
def test_a_note_knows_what_its_files_were(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "head").write_bytes(b"head")
    write_about(tmp_path / "note.json", {"step": 3}, root)
    assert read_about(tmp_path / "note.json", root) == {"step": 3}
    damage(root / "head")
    with pytest.raises(DamageError, match=f"^{root / 'head'}: {message}"):
        read_about(tmp_path / "note.json", root)


def test_a_sealed_note_is_read_back_and_so_is_that_of_an_older_version(tmp_path: Path) -> None:
    note = tmp_path / "end.json"
    write_sealed(note, {"status": "KILLED"})
    assert read_sealed(note, Note) == Note("KILLED")
    note.write_text(json.dumps({"status": "FAILED"}))
    assert read_sealed(note, Note) == Note("FAILED")


@pytest.mark.parametrize("text", ["", "[]", '{"status": "KIL', '{"other": 1}', '{"status": "KILLED"}\nsha256 0\n'])
def test_a_note_that_is_none_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "end.json").write_text(text)
    with pytest.raises(DamageError, match=f"^{tmp_path / 'end.json'}: is damaged"):
        read_sealed(tmp_path / "end.json", Note)
