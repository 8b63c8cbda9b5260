from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.data import list_samples


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name in ("1.mp4", "2.mp4", "with space.mp4", "comma, here.mp4"):
        (tmp_path / "clips" / name).touch()
    return tmp_path


def listed(table: Path) -> list[tuple[str, str, str | None, str | None]]:
    return [(sample.name, sample.label, sample.split, sample.group) for sample in list_samples(str(table))]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("t.csv", "path,label\nclips/1.mp4,a\nclips/2.mp4,b\n", [("1", "a", None, None), ("2", "b", None, None)]),
        ("t.csv", "Label,Path\na,clips/1.mp4\n\nb,clips/2.mp4\n", [("1", "a", None, None), ("2", "b", None, None)]),
        (
            "t.tsv",
            "path\tlabel\tsplit\tgroup\nclips/1.mp4\ta\ttrain\tx\nclips/2.mp4\tb\ttrain\t\n",
            [("1", "a", "train", "x"), ("2", "b", "train", None)],
        ),
        ("t.csv", "path,label,split\nclips/1.mp4,a,train\nclips/2.mp4,b,train\nclips/2.mp4,b,validation\n", None),
        (
            "t.csv",
            'path,label\n"clips/comma, here.mp4",a b\nclips/2.mp4,b\n',
            [("comma, here", "a b", None, None), ("2", "b", None, None)],
        ),
        ("k400.csv", "clips/1.mp4 0\nclips/2.mp4 1\n", [("1", "0", None, None), ("2", "1", None, None)]),
        (
            "list.txt",
            "clips/with space.mp4 0\nclips/2.mp4\t1\n",
            [("with space", "0", None, None), ("2", "1", None, None)],
        ),
        ("list.csv", "clips/1.mp4,run\nclips/2.mp4,walk\n", [("1", "run", None, None), ("2", "walk", None, None)]),
    ],
)
def test_tables_are_read(root: Path, name: str, text: str, expected: list | None) -> None:
    (root / name).write_text(text)
    found = listed(root / name)
    if expected is None:
        assert [row[2] for row in found] == ["train", "train", "val"]
    else:
        assert found == [(f"clips/{stem}.mp4", *rest) for stem, *rest in expected]


def test_a_folder_of_lists_gives_their_splits(root: Path) -> None:
    (root / "kinetics_train_list_videos.txt").write_text("clips/1.mp4 0\nclips/2.mp4 1\n")
    (root / "kinetics_val_list_videos.txt").write_text("clips/with space.mp4 1\n")
    assert [(row[0], row[2]) for row in listed(root)] == [
        ("clips/1.mp4", "train"),
        ("clips/2.mp4", "train"),
        ("clips/with space.mp4", "val"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("t.csv", "path,split\nclips/1.mp4,train\n", "no column 'label' in the header path,split"),
        ("t.csv", "file,label\nclips/1.mp4,a\n", "no column 'path'"),
        ("t.csv", "path,label\nclips/1.mp4,a\nclips/9.mp4,b\n", r"1 of 2 files are not there: clips/9.mp4 \(line 3\)"),
        ("t.csv", "path,label,split\nclips/1.mp4,a,dev\n", "line 2: split 'dev': expected train, val or test"),
        ("t.csv", "path,label\nclips/1.mp4\n", "line 2: 1 cells: expected 2"),
        ("t.csv", "path,label\nclips/1.mp4,\n", "line 2: expected both a path and a label"),
        ("t.txt", "clips/1.mp4\n", "line 1: 'clips/1.mp4': expected 'path label'"),
        ("t.csv", "", "no videos found"),
        ("t.json", "{}", "expected a folder, or a table ending in .csv, .tsv, .txt"),
    ],
)
def test_faulty_tables_are_refused_with_the_line(root: Path, name: str, text: str, reason: str) -> None:
    (root / name).write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        list_samples(str(root / name))
    assert name in str(caught.value)


def test_a_binary_table_is_refused(root: Path) -> None:
    (root / "t.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="encoded in UTF-8"):
        list_samples(str(root / "t.csv"))
