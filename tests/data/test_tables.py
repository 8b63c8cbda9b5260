from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.data import read_data, read_training_data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name in ("1.mp4", "2.mp4", "with space.mp4", "comma, here.mp4"):
        (tmp_path / "clips" / name).touch()
    return tmp_path


def listed(table: Path) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (sample.name, sample.label, sample.split, sample.group) for sample in read_training_data(str(table)).samples
    ]


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
        (
            "t.csv",
            "path,label,split\nclips/1.mp4,a,Train\nclips/2.mp4,b,training\nclips/with space.mp4,b,validation\n",
            [("1", "a", "train", None), ("2", "b", "train", None), ("with space", "b", "val", None)],
        ),
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
        (
            "list.csv",
            "clips/1.mp4,group\nclips/2.mp4,label\n",
            [("1", "group", None, None), ("2", "label", None, None)],
        ),
        ("list.csv", '"clips/1.mp4","a b"\n"clips/2.mp4","b"\n', [("1", "a b", None, None), ("2", "b", None, None)]),
        (
            "list.txt",
            "clips/comma, here.mp4 0\nclips/2.mp4 1\n",
            [("comma, here", "0", None, None), ("2", "1", None, None)],
        ),
        *(
            (name, text, [("1", "a", None, None), ("2", "b", None, None)])
            for name, text in [
                ("quoted.csv", '"path","label"\n"clips/1.mp4","a"\n"clips/2.mp4","b"\n'),
                ("blank.csv", "\n\npath,label\nclips/1.mp4,a\nclips/2.mp4,b\n"),
                ("comment.csv", '# "by hand\n#\npath,label\nclips/1.mp4,a\nclips/2.mp4,b\n'),
                ("tabs.csv", "path\tlabel\nclips/1.mp4\ta\nclips/2.mp4\tb\n"),
                ("commas.tsv", "path,label\nclips/1.mp4,a\nclips/2.mp4,b\n"),
                ("semicolons.csv", "path;label\nclips/1.mp4;a\nclips/2.mp4;b\n"),
                ("blanks.csv", 'path, label\nclips/1.mp4, "a"\nclips/2.mp4, b\n'),
                ("mac.csv", "path,label\rclips/1.mp4,a\rclips/2.mp4,b\r"),
                ("bom.csv", "\ufeffpath,label\r\nclips/1.mp4,a\r\nclips/2.mp4,b\r\n"),
                ("excel.csv", "path,label,,\nclips/1.mp4,a,,\nclips/2.mp4,b,,\n"),
                ("twice.csv", "path,label\nclips/1.mp4,a\n./clips/1.mp4,a\nclips/2.mp4,b\nclips/1.mp4,a\n"),
                ("comment.txt", "# made by hand\nclips/1.mp4 a\nclips/2.mp4 b\n"),
            ]
        ),
    ],
)
def test_tables_are_read(root: Path, name: str, text: str, expected: list) -> None:
    (root / name).write_text(text, newline="")
    assert listed(root / name) == [(f"clips/{stem}.mp4", *rest) for stem, *rest in expected]


@pytest.mark.parametrize(
    ("name", "text", "left_out"),
    [
        ("t.csv", "path,label,fold\nclips/1.mp4,a,0\nclips/2.mp4,b,1\n", {"columns without a meaning here": ["fold"]}),
        (
            "t.csv",
            '"","path","label"\n"1","clips/1.mp4","a"\n"2","clips/2.mp4","b"\n',
            {"columns without a meaning here": ["(one without a name)"]},
        ),
        (
            "t.csv",
            "path,label\nclips/1.mp4,a\nclips/1.mp4,a\nclips/2.mp4,b\n",
            {"files that are named before": ["clips/1.mp4"]},
        ),
        (
            "t.csv",
            "# x\npath,label,bus_stop\nclips/1.mp4,a,\nclips/2.mp4,b,\n",
            {"lines that begin with #": ["line 1"]},
        ),
        ("t.txt", "# old\nclips/1.mp4 a\nclips/2.mp4 b\n", {"lines that begin with #": ["line 1"]}),
    ],
)
def test_what_is_not_used_of_a_table_is_named(root: Path, name: str, text: str, left_out: dict) -> None:
    (root / name).write_text(text)
    assert read_data(str(root / name)).left_out == left_out


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
        ("t.csv", "path,label,split\nclips/1.mp4,a,\n", "line 2: split '': expected train, val or test"),
        ("t.csv", "path,label\nclips/1.mp4\n", "line 2: 1 cells: expected 2"),
        ("t.csv", "path,label\nclips/1.mp4,\n", "line 2: expected both a path and a label"),
        ("t.txt", "clips/1.mp4\n", "line 1: 'clips/1.mp4': expected 'path label'"),
        ("t.csv", "", "no videos found"),
        ("t.json", "{}", "expected a folder, or a table ending in .csv, .tsv, .txt"),
        ("t.csv", "path,label,start,end\nclips/1.mp4,a,0,1\n", "columns start, end: rows are whole videos here"),
        ("t.csv", "path,label,time_start\nclips/1.mp4,a,0\n", "columns time_start: rows are whole videos"),
        *(
            ("t.csv", f"path,label,{name}\nclips/1.mp4,a,0\n", f"columns {name.casefold()}: rows are whole videos")
            for name in ("startTime", "tend", "first_frame", "t0", "start_timestamp", "clip_end", "endSec", "onset")
        ),
        (
            "t.csv",
            "path,label,segment\nclips/1.mp4,a,1\n./clips/1.mp4,a,2\n",
            "lines 2 and 3: ./clips/1.mp4 with segment 1 and 2: rows are whole videos here",
        ),
        ("t.csv", "path,label,is_test\nclips/1.mp4,a,0\n", "column 'is_test' holds 0: expected the name 'split'"),
        ("t.csv", "path,label,part\nclips/1.mp4,a,train\nclips/2.mp4,a,dev\n", r"'part' holds dev, train"),
        *(
            (
                "t.csv",
                f"path,label\nclips/1.mp4,{one}\n",
                "line 2: label '.*', which programs write where there is none",
            )
            for one in ("NaN", "#N/A", "NULL", "NA", "?")
        ),
        ("t.csv", "path,label,from,to\nclips/1.mp4,a,0,1\n", "columns from, to: rows are whole videos"),
        (
            "t.csv",
            "path,label,set\nclips/1.mp4,a,train\nclips/2.mp4,a,test\nclips/with space.mp4,b,x\n",
            "column 'set'",
        ),
        (
            "t.csv",
            "path,label,split,group\nclips/1.mp4,a,train,S1\nclips/2.mp4,b,test,s1\n",
            r"group 'S1' is in train \(clips/1.mp4\) and, as 's1', in test",
        ),
        ("t.csv", "path,label,splt\nclips/1.mp4,a,train\n", "column 'splt' is none of .*: expected 'split' if that"),
        ("t.csv", "path,label,gruop\nclips/1.mp4,a,x\n", "column 'gruop' is none of .*: expected 'group' if that"),
        ("t.csv", "path,label,usage\nclips/1.mp4,a,train\n", "column 'usage' holds train: expected the name 'split'"),
        ("t.csv", "path,label,label\nclips/1.mp4,a,b\n", "2 columns 'label' in the header path,label,label"),
        ("t.csv", "path,lable\nclips/1.mp4,a\n", "no column 'label' in the header path,lable"),
        ("t.csv", "path,label\nclips/1.mp4,a\nclips/1.mp4,b\n", "clips/1.mp4 has label b, and before a: expected ever"),
        ("t.csv", "path,label,split\nclips/1.mp4,a,train\n./clips/1.mp4,a,val\n", "the same file, train: expected ev"),
        (
            "t.csv",
            "path,label,split,group\nclips/1.mp4,a,train,g\nclips/2.mp4,b,test,g\n",
            r"group 'g' is in train \(clips/1.mp4\) and in test \(clips/2.mp4\)",
        ),
        ("t.csv", 'path,label\nclips/1.mp4,"a\nb"\n', r"class 'a\\nb' \(clips/1.mp4\): expected a name on one line"),
        *(("t.csv", f"path,label\nclips/1.mp4,a{one}\n", "expected a name on one") for one in "\0\x0b\x85\u2028"),
        ("t.csv", f"path,label\nclips/1.mp4,{'a' * 131073}\n", "line 2: field larger than field limit"),
        ("t.csv", f"path,label\n{'x/' * 2500}1.mp4,a\n", r"1 of 1 files are not there: .*\.\.\..* \(line 2\)"),
        ("t.csv", f"path,label\n{'x' * 300}.mp4,a\n", "1 of 1 files are not there"),
        ("t.csv", 'path,label\nclips/1.mp4,"a\nclips/2.mp4,b\n', "line 2: unexpected end of data: expected cells"),
        ("t.csv", "path,label\ns3://b/1.mp4,a\n", "line 2: path=s3://b/1.mp4: an address: expected a path"),
        ("t.csv", "path,label\nclips\\1.mp4,a\n", r"not there: .*; \\ does not separate folders here"),
        ("t.csv", "path,label\nclips,a\n", r"1 of 1 files are not there: clips \(line 2\)"),
        ("t.txt", "file class\nclips/1.mp4 a\n", "line 1 may be a header: expected path,label"),
    ],
)
def test_faulty_tables_are_refused_with_the_line(root: Path, name: str, text: str, reason: str) -> None:
    (root / name).write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        read_training_data(str(root / name))
    assert name in str(caught.value)


def test_a_group_that_is_not_there_is_none(root: Path) -> None:
    (root / "t.csv").write_text("path,label,group\nclips/1.mp4,a,NA\nclips/2.mp4,b,\nclips/with space.mp4,null,g\n")
    assert [row[1::2] for row in listed(root / "t.csv")] == [("a", None), ("b", None), ("null", "g")]


@pytest.mark.parametrize(
    "test", ["elsewhere/1.mp4 a\n", "elsewhere\\1.mp4 a\n", "clips/2.mp4\n", "path,label\nelsewhere/2.mp4,a\n"]
)
def test_a_list_that_cannot_be_followed_is_not_passed_over(root: Path, test: str) -> None:
    (root / "train.txt").write_text("clips/1.mp4 a\nclips/with space.mp4 b\n")
    (root / "test.txt").write_text(test)
    with pytest.raises(UserError, match=r"test\.txt"):
        read_data(str(root))
    (root / "train.txt").unlink()
    with pytest.raises(UserError, match=r"test\.txt"):
        read_data(str(root))


def test_lists_beside_class_folders_are_read_if_they_have_all(root: Path) -> None:
    for name in ("run/1.mp4", "run/2.mp4", "walk/1.mp4", "walk/2.mp4"):
        (root / "clips" / name).parent.mkdir(exist_ok=True)
        (root / "clips" / name).touch()
    (root / "clips" / "train.txt").write_text("run/1.mp4 0\nwalk/1.mp4 1\n")
    for name in ("1.mp4", "2.mp4", "with space.mp4", "comma, here.mp4"):
        (root / "clips" / name).unlink()
    with pytest.raises(UserError, match=r"in two ways: by train.txt, without 2 videos such as run/2.mp4, or by its"):
        read_data(str(root / "clips"))
    (root / "clips" / "train_old.txt").write_text("run/1.mp4 0\n")
    with pytest.raises(UserError, match=r"train.txt and train_old.txt are both lists of train and name run/1.mp4"):
        read_data(str(root / "clips"))
    (root / "clips" / "train_old.txt").unlink()
    (root / "clips" / "val.txt").write_text("run/2.mp4 0\nwalk/2.mp4 1\n")
    listing = read_data(str(root / "clips"))
    assert [(one.name, one.label, one.split) for one in listing.samples] == [
        ("run/1.mp4", "0", "train"),
        ("walk/1.mp4", "1", "train"),
        ("run/2.mp4", "0", "val"),
        ("walk/2.mp4", "1", "val"),
    ]
    assert listing.notes == ["Read by its lists train.txt, val.txt"]


def test_a_table_that_cannot_be_read_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:  # of the tests' user, who may be root, nothing is refused
        raise PermissionError(13, "Permission denied")

    (root / "t.csv").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"t.csv: cannot be read \(Permission denied\)"):
        read_training_data(str(root / "t.csv"))


def test_a_binary_table_is_refused(root: Path) -> None:
    (root / "t.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="encoded in UTF-8"):
        read_training_data(str(root / "t.csv"))
