from pathlib import Path

import pytest

from vjepa_mlflow.data import read_data
from vjepa_mlflow.data.list_folders import FolderWithLists, find_split_lists
from vjepa_mlflow.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two class folders of two videos each."""
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in "12":
            (tmp_path / label / f"{number}.mp4").touch()
    return tmp_path


def test_a_list_is_a_table_whose_name_says_one_split() -> None:
    names = ("kinetics400_val_list.txt", "train.csv", "train_test.txt", "dev.txt", "notes.txt", "test.json")
    assert find_split_lists(map(Path, names)) == {Path("kinetics400_val_list.txt"): "val", Path("train.csv"): "train"}


def test_lists_say_splits_and_what_is_in_none_is_told(root: Path) -> None:
    (root / "train.txt").write_text("a/1.mp4 a\nb/1.mp4 b\n")
    (root / "test.txt").write_text("a/2.mp4 a\n")
    listing = read_data(str(root))
    splits = {sample.name: sample.split for sample in listing.samples}
    assert splits == {"a/1.mp4": "train", "b/1.mp4": "train", "a/2.mp4": "test"}
    assert listing.left_out == {"videos in no list": ["b/2.mp4"]}
    assert listing.notes == ["Read by its lists test.txt, train.txt"]


def test_videos_of_several_folders_in_no_list_are_a_second_way_to_read_it(root: Path) -> None:
    (root / "train.txt").write_text("a/1.mp4 a\nb/1.mp4 b\n")
    with pytest.raises(UserError, match=r"can be read in two ways: by train\.txt, without 2 videos such as a/2\.mp4"):
        read_data(str(root))


def test_two_lists_of_one_split_may_not_name_one_video(root: Path) -> None:
    (root / "train.txt").write_text("a/1.mp4 a\nb/1.mp4 b\n")
    (root / "trainlist02.txt").write_text("a/1.mp4 a\nb/2.mp4 b\na/2.mp4 a\n")
    with pytest.raises(UserError, match=r"train\.txt and trainlist02\.txt are both lists of train and name a/1\.mp4"):
        read_data(str(root))


def test_names_of_lists_that_are_none_are_heeded_where_nothing_else_says_what_to_read(root: Path) -> None:
    (root / "train.txt").write_text("nothing\n")
    assert FolderWithLists.at(root) is None  # it is one file beside class folders
    (root / "val.txt").write_text("nothing\n")
    with pytest.raises(UserError, match=r"train\.txt, line 1: 'nothing': expected 'path label'"):
        read_data(str(root))
    (root / "val.txt").unlink()
    for video in root.glob("*/*.mp4"):
        video.unlink()
    with pytest.raises(UserError, match=r"train\.txt, line 1: 'nothing': expected 'path label'"):
        read_data(str(root))
