"""Kinds of data: which one is asked first, and that a new one is a class and its place among the others."""

from pathlib import Path

import pytest

from vjepa_mlflow.data import DEMO, demo, listing, locate_data, read_data
from vjepa_mlflow.data.data_source import DataSource
from vjepa_mlflow.data.folders import ClassFolders
from vjepa_mlflow.data.list_folders import FolderWithLists
from vjepa_mlflow.data.samples import Listing, Sample
from vjepa_mlflow.data.tables import Table
from vjepa_mlflow.errors import UserError


def test_what_lies_at_a_place_is_of_the_first_kind_that_takes_it(tmp_path: Path) -> None:
    root = tmp_path
    for label in "ab":
        (root / label).mkdir()
        (root / label / "1.mp4").touch()
    assert isinstance(listing._source_of(str(root)), ClassFolders)
    (root / "train.txt").write_text("a/1.mp4 a\nb/1.mp4 b\n")
    assert isinstance(listing._source_of(str(root)), FolderWithLists)
    assert isinstance(listing._source_of(str(root / "train.txt")), Table)


def test_the_demo_is_known_by_its_name_and_located_before_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    assert locate_data(DEMO) == tmp_path / f"demo-{demo.VERSION}"
    assert isinstance(listing._source_of(DEMO), demo.DemoSet)
    assert not list(tmp_path.iterdir())


def test_a_path_is_located_without_a_look_at_it_and_read_only_where_something_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate_data("clips") == tmp_path / "clips"
    with pytest.raises(UserError, match=rf"data=clips: no such folder or table \(looked in {tmp_path}\)"):
        read_data("clips")
    (tmp_path / "clips.zip").touch()
    with pytest.raises(UserError, match=r"clips.zip: expected a folder, or a table ending in \.csv, \.tsv, \.txt"):
        read_data("clips.zip")


class Album(DataSource):
    """A kind that is told by its suffix, and by a name."""

    @classmethod
    def named(cls, data: str) -> "Album | None":
        return cls(Path("/albums/best.album")) if data == "album:best" else None

    @classmethod
    def at(cls, place: Path) -> "Album | None":
        return cls(place) if place.suffix == ".album" else None

    def read(self) -> Listing:
        return Listing([Sample(self.place / f"{label}.mp4", f"{label}.mp4", label) for label in "ab"])


def test_a_new_kind_is_a_class_among_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SOURCES", (Album, *listing.SOURCES))
    (tmp_path / "mine.album").touch()
    assert [sample.label for sample in read_data(str(tmp_path / "mine.album")).samples] == ["a", "b"]
    assert locate_data("album:best") == Path("/albums/best.album")
    assert [sample.path.parent for sample in read_data("album:best").samples] == [Path("/albums/best.album")] * 2
