from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.data import find_videos, list_samples


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation"])
def test_split_folders_give_their_splits(tmp_path: Path, val: str) -> None:
    touch(
        tmp_path,
        "train/a/1.mp4",
        "train/b/2.MKV",
        f"{val}/a/3.mp4",
        "test/b/deep/4.webm",
        "notes.txt",
        "train/a/.5.mp4",
    )
    samples = list_samples(str(tmp_path))
    assert sorted((sample.name, sample.label, sample.split) for sample in samples) == sorted(
        [
            ("train/a/1.mp4", "a", "train"),
            ("train/b/2.MKV", "b", "train"),
            (f"{val}/a/3.mp4", "a", "val"),
            ("test/b/deep/4.webm", "b", "test"),
        ]
    )


def test_class_folders_have_no_split_yet(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.mp4", "a/2.mp4")
    assert [(sample.label, sample.split) for sample in list_samples(str(tmp_path))] == [("a", None), ("b", None)]


def test_videos_are_found_in_a_fixed_order(tmp_path: Path) -> None:
    touch(tmp_path, "z/1.mp4", "a/2.avi", "a/1.mov", "a/readme.md", ".hidden/3.mp4")
    assert [path.relative_to(tmp_path).as_posix() for path in find_videos(tmp_path)] == [
        "a/1.mov",
        "a/2.avi",
        "z/1.mp4",
    ]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "no videos found"),
        (["a/readme.txt", "b/1.mp4"], "class folder .*a holds no videos"),
        (["1.mp4", "2.mp4"], "no videos found"),
        (["a/1.mp4", "a/2.mp4"], "only one class, 'a': expected at least two"),
        (["val/a/1.mp4", "val/b/1.mp4"], "no videos in the train split"),
        (["train/a/1.mp4", "train/b/1.mp4", "val/c/1.mp4"], "class 'c' is in val .* not in train"),
        (["train/a/1.mp4", "train/b/x.txt", "val/b/1.mp4"], "class folder .*train/b holds no videos"),
    ],
)
def test_folders_that_cannot_be_trained_on_are_refused(tmp_path: Path, names: list[str], reason: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=reason) as caught:
        list_samples(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="data=nowhere/at/all: no such folder or table"):
        list_samples("nowhere/at/all")
