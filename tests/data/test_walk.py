from pathlib import Path

import pytest

from vjepa_mlflow.data.samples import Listing, Sample
from vjepa_mlflow.data.walk import Walk, find_videos, in_order, real_paths
from vjepa_mlflow.errors import UserError


def test_entries_are_sorted_and_hidden_ones_told(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", ".hidden.mp4", "Thumbs.db"):
        (tmp_path / name).touch()
    for name in ("d", "c", "__MACOSX"):
        (tmp_path / name).mkdir()
    (tmp_path / "loop").symlink_to("loop")
    walk = Walk(tmp_path, Listing())
    folders, files = walk.entries(tmp_path)
    assert [path.name for path in folders] == ["c", "d"]
    assert [path.name for path in files] == ["a.mp4", "b.mp4", "loop"]
    assert walk.entries(tmp_path) == (folders, files)
    assert walk.listing.left_out == {"hidden files and folders": [".hidden.mp4", "Thumbs.db", "__MACOSX"]}


def test_a_folder_is_gone_into_once_and_its_other_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.mp4").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to("a")
    listing = Listing()
    assert list(find_videos(tmp_path, listing)) == [tmp_path / "a" / "1.mp4"]
    assert listing.left_out == {
        "folders that are read already by another name": ["b (leads to a)", "a/up (leads to a folder above)"]
    }


def test_a_file_in_place_of_a_folder_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(UserError, match=r"a: this folder cannot be read \(Not a directory\)"):
        Walk(tmp_path, Listing()).entries(tmp_path / "a")


def test_real_paths_are_those_behind_links_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.mp4").touch()
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c.mp4").symlink_to("b/1.mp4")
    paths = [tmp_path / "a" / "1.mp4", tmp_path / "b" / "1.mp4", tmp_path / "c.mp4"]
    samples = [Sample(path, path.name, "a") for path in paths]
    assert list(real_paths(samples)) == [str((tmp_path / "a" / "1.mp4").resolve())] * 3


def test_files_of_a_folder_come_before_those_below_it() -> None:
    names = ["b.mp4", "a/2.mp4", "a/c/1.mp4", "a/1.mp4", "a.mp4"]
    assert sorted(names, key=in_order) == ["a.mp4", "b.mp4", "a/1.mp4", "a/2.mp4", "a/c/1.mp4"]


def test_a_folder_below_one_that_a_link_leads_to_is_gone_into_once(tmp_path: Path) -> None:
    (tmp_path / "outside" / "x").mkdir(parents=True)
    (tmp_path / "outside" / "x" / "1.mp4").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").symlink_to("../outside/x")
    (tmp_path / "root" / "b").symlink_to("../outside")
    listing = Listing()
    assert list(find_videos(tmp_path / "root", listing)) == [tmp_path / "root" / "a" / "1.mp4"]
    assert listing.left_out == {"folders that are read already by another name": ["b/x (leads to a)"]}
