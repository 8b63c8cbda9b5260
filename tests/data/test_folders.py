import os
from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.data import find_videos, read_data, read_training_data


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
    samples = read_training_data(str(tmp_path)).samples
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
    assert [(sample.label, sample.split) for sample in read_training_data(str(tmp_path)).samples] == [
        ("a", None),
        ("b", None),
    ]


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
        (["train/a/1.mp4", "train/b/1.mp4", "jump/1.mp4"], "in two ways: train as splits, and jump as nothing; or all"),
        (["train/x/1.mp4", "bus/1.mp4", "car/1.mp4"], "train as splits, and bus, car as nothing; or all of them as cl"),
        (["train/a/1.mp4", "train/b/1.mp4", "dev/a/1.mp4"], "in two ways: train as splits, and dev as nothing"),
        (["train/a/1.mp4", "train/b/1.mp4", "val/1.mp4"], r"1 videos lie in val itself, in no class folder \(1.mp4\)"),
        (["train/1.mp4", "test/1.mp4"], "if test is a class, another name of it, or a table"),
        (["train/a/1.mp4", "train/b/1.mp4", "val/a/1.mp4", "valid/b/1.mp4"], "folders val and valid are both val"),
        (["a/train/1.mp4", "a/test/1.mp4", "b/train/1.mp4"], "test, train in a as splits of a class, or as folders"),
        (["a/1.mp4", "b/1.mp4", "more/a/1.mp4"], "more as a class, or as a set of its own with the classes a"),
        (
            ["s1/a/1.mp4", "s1/b/1.mp4", "s2/a/1.mp4", "s2/b/1.mp4"],
            "s1, s2 as classes, or a, b in them",
        ),
        (
            ["train/s1/a/1.mp4", "train/s1/b/1.mp4", "train/s2/a/1.mp4", "train/s2/b/1.mp4"],
            "s1, s2 as classes, or a, b in",
        ),
        (
            ["s1/a/1.mp4", "s1/b/1.mp4", "s1/x.mp4", "s2/a/1.mp4", "s2/b/1.mp4", "s3/a/1.mp4"],
            "s1, s2, s3 as classes, or",
        ),
        (["1_2/1.mp4", "1-2/1.mp4"], "'1-2' .* and '1_2' .* are one name"),
        (["pushup/1.mp4", "push up/1.mp4"], "'push up' .* and 'pushup' .* are one name"),
        (["class1/1.mp4", "class01/1.mp4"], "'class01' .* and 'class1' .* are one name"),
        (["train_256/a/1.mp4", "val_256/a/1.mp4"], "train_256, val_256 as splits, or as classes"),
        (["all/a/1.mp4", "all/b/1.mp4"], "its only folder, all, would be the only class: did you mean data=.*/all"),
        (
            ["videos/1.mp4", "videos/2.mp4", "labels.csv"],
            r"its only folder, videos, .* did you mean data=.*/labels\.csv",
        ),
        (["train/Run/1.mp4", "train/walk/1.mp4", "val/run/1.mp4"], "'Run' .* and 'run' .* are one name in two spell"),
        (["1/1.mp4", "01/1.mp4", "2/1.mp4"], "classes '01' .* and '1' .* are one name"),
        (["jump rope/1.mp4", "jump_rope/1.mp4"], "'jump rope' .* and 'jump_rope' .* are one name"),
        (["caf\u00e9/1.mp4", "cafe\u0301/1.mp4"], r"'cafe\\u0301' .* and 'caf\\xe9' .* are one name"),
        (["a\x0bb/1.mp4", "c/1.mp4"], r"class 'a\\x0bb' .*: expected a name on one line"),
    ],
)
def test_folders_that_cannot_be_trained_on_are_refused(tmp_path: Path, names: list[str], reason: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=reason) as caught:
        read_training_data(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (["a/1.mp4", "b/1.mp4", "loose.mp4"], {"videos in no class folder": ["loose.mp4"]}),
        (
            ["train/a/1.mp4", "train/b/1.mp4", "val/a/1.mp4", "val/x.mp4", "notes/x.txt"],
            {"videos in no class folder": ["val/x.mp4"], "folders without videos": ["notes"]},
        ),
        (
            ["a/1.mp4", "a/2.y4m", "b/1.mp4", "b/.2.mp4", ".git/x", "__MACOSX/a/._1.mp4", "a/Thumbs.db"],
            {
                "files without a video's suffix": ["a/2.y4m"],
                "hidden files and folders": [".git", "__MACOSX", "a/Thumbs.db", "b/.2.mp4"],
            },
        ),
        (
            ["a/1.mp4", "b/1.mp4", "test_results.csv"],  # which names no video
            {"files without a video's suffix": ["test_results.csv"]},
        ),
    ],
)
def test_what_is_not_used_is_named(tmp_path: Path, names: list[str], left_out: dict[str, list[str]]) -> None:
    listing = read_data(str(touch(tmp_path, *names)))
    assert listing.left_out == left_out
    assert len(listing.samples) == sum(name.count("/1.mp4") for name in names)


def test_classes_may_be_negative_or_named_like_splits(tmp_path: Path) -> None:
    labels = {"1", "-1", "1.1", "1.10", "1 1", "11", "test_pass", "pan_-30", "pan_30", "A", "A-", "C", "C++", "null"}
    touch(tmp_path, *(f"{label}/1.mp4" for label in labels))
    assert {sample.label for sample in read_training_data(str(tmp_path)).samples} == labels


@pytest.mark.parametrize("link", ["a/up", "a/deep/up", "b/sub"])
def test_links_are_followed_once_and_named(tmp_path: Path, link: str) -> None:
    """A folder above and one below would make samples without end, or twice as many."""
    root = touch(tmp_path / "in", "a/1.mp4", "a/deep/2.mp4", "b/1.mp4", "b/deep/2.mp4")
    (root / link).symlink_to(root if link.endswith("up") else root / "b" / "deep")
    listing = read_data(str(root))
    assert len(listing.samples) == 4
    ((name,),) = listing.left_out.values()
    assert name.startswith(f"{link} (leads to ")
    assert len(list(find_videos(root))) == 4


def test_folders_that_link_to_all_others_are_gone_through_once(tmp_path: Path) -> None:
    folders = [touch(tmp_path / str(number), "1.mp4") for number in range(30)]
    for folder in folders:
        for other in folders:
            (folder / f"to {other.name}").symlink_to(other)
    assert len(list(find_videos(tmp_path))) == 30


def test_classes_may_lie_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "in/b/1.mp4", "store/1.mp4", "store/deep/2.mp4")
    (tmp_path / "in" / "a").symlink_to(tmp_path / "store")
    assert [(one.name, one.label) for one in read_training_data(str(tmp_path / "in")).samples] == [
        ("a/1.mp4", "a"),
        ("a/deep/2.mp4", "a"),
        ("b/1.mp4", "b"),
    ]


@pytest.mark.parametrize(("link", "target"), [("c", "a"), ("b/x", "a"), ("b/x.mp4", "a/1.mp4")])
def test_what_is_in_two_classes_is_refused(tmp_path: Path, link: str, target: str) -> None:
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    (tmp_path / link).symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=rf"{link}.* the same f"):
        read_training_data(str(tmp_path))


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.mp4", "a/locked/2.mp4", "b/1.mp4")
    scan = os.scandir

    def refuse(folder: Path) -> object:  # of the tests' user, who may be root, nothing is refused
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"a/locked: this folder cannot be read \(Permission denied\)"):
        read_training_data(str(tmp_path))


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    folder = os.open(tmp_path / "a", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=folder)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    with pytest.raises(UserError, match="File name too long") as caught:
        read_training_data(str(tmp_path))
    assert len(str(caught.value)) < 500


def test_videos_that_were_cut_from_one_are_a_group(tmp_path: Path) -> None:
    names = [f"{label}/v_{label}_g{group:02}_c{cut:02}.avi" for label in "ab" for group in (1, 2) for cut in (1, 2)]
    listing = read_data(str(touch(tmp_path, *names)))
    assert [one.group for one in listing.samples] == [
        "a g01",
        "a g01",
        "a g02",
        "a g02",
        "b g01",
        "b g01",
        "b g02",
        "b g02",
    ]
    assert "UCF101" in listing.notes[0]
    listing = read_data(str(touch(tmp_path, "a/other.avi")))
    assert {one.group for one in listing.samples} == {"a g01", "a g02", "b g01", "b g02", None}
    assert "8 of 9" in listing.notes[0]
    (tmp_path / "trainlist01.txt").write_text("".join(f"{name} 1\n" for name in [*names, "a/other.avi"]))
    assert sum(one.group is not None for one in read_data(str(tmp_path / "trainlist01.txt")).samples) == 8


def test_folders_in_classes_are_said_to_be_no_groups(tmp_path: Path) -> None:
    listing = read_data(str(touch(tmp_path, "a/anna/1.mp4", "a/ben/1.mp4", "b/anna/cut/1.mp4", "b/1.mp4")))
    assert listing.notes[0].startswith("Folders inside class folders mean nothing (a/anna, a/ben, b/anna): wh")


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "small/a/1.mp4", "small/b/1.mp4")
    monkeypatch.chdir(tmp_path)
    samples = read_training_data("small").samples
    monkeypatch.chdir("/")
    assert all(sample.path.is_file() for sample in samples)


@pytest.mark.parametrize(
    "data", ["s3://bucket/videos", "gs://b/x.csv", "https://host/x", "dbfs:/x", Path("s3://bucket")]
)
def test_addresses_are_refused_with_the_way(data: str | Path) -> None:
    with pytest.raises(
        UserError, match=r"data=\w+:/.*: an address: expected a path on this machine; copy it here, or mo"
    ):
        read_training_data(str(data))


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="data=nowhere/at/all: no such folder or table"):
        read_training_data("nowhere/at/all")
