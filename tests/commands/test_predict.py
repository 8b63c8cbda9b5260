import csv
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers import environment, write_video

from vjepa_mlflow import UserError, flavor
from vjepa_mlflow.cli import main
from vjepa_mlflow.commands.predict import PredictionCounts, predict, predict_to_file
from vjepa_mlflow.model import load_classifier, load_processor, locate
from vjepa_mlflow.stages import prediction_files
from vjepa_mlflow.stages.prediction_files import COLUMNS

MANY = 200


@pytest.fixture(scope="module")
def model_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("predict") / "model"
    checkpoint = locate("tiny")
    flavor.save_model(load_classifier(checkpoint, ["ape", "bee"], seed=0), load_processor(checkpoint), path, stride=4)
    return str(path)


def read(output: Path) -> pd.DataFrame:
    return pd.read_csv(output, keep_default_na=False) if output.suffix == ".csv" else pd.read_parquet(output)


def test_files_and_folders_are_predicted_in_order(model_uri: str, small_data: Path) -> None:
    single = small_data / "val" / "left_clockwise" / "5.mp4"
    rows = list(predict(model_uri, [single, small_data / "test"]))
    assert [row["path"] for row in rows] == [str(single), *sorted(map(str, (small_data / "test").rglob("*.mp4")))]
    assert all(row["label"] in ("ape", "bee") and 0.5 <= row["score"] <= 1 and not row["error"] for row in rows)
    assert {(row["model"], row["num_clips"]) for row in rows} == {(rows[0]["model"], 1)}


def test_a_bad_file_does_not_stop_the_others(model_uri: str, small_data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\x00\x00")
    rows = list(predict(model_uri, [bad, small_data / "val" / "left_clockwise"]))
    assert rows[0]["score"] is None
    assert "cannot be decoded" in rows[0]["error"]
    assert [row["error"] for row in rows[1:]] == ["", ""]


def test_ones_own_files_are_held_to_no_servers_limits(
    model_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = write_video(tmp_path / "wide.mkv", size=(1280, 64), codec="ffv1", frames=20)
    old = write_video(tmp_path / "old.avi", codec="huffyuv", pixel_format="yuv422p", frames=20)
    list_of_others = tmp_path / "list.mp4"
    list_of_others.write_text(f"ffconcat version 1.0\nfile '{old}'\n")
    rows = list(predict(model_uri, [wide, old, list_of_others]))
    assert [row["error"] for row in rows[:2]] == ["", ""]
    assert (
        rows[2]["error"]
        == "it is of a format that is not read here: expected a file that holds a video itself (containers)"
    )
    served = mlflow.pyfunc.load_model(model_uri)
    answers = served.predict(
        pd.DataFrame({"video": [wide.read_bytes(), old.read_bytes()]}), params={"bad_videos": "report"}
    )
    assert [error.split(":")[0] for error in answers["error"]] == [
        "its frames have 1280x64 pixels",
        "its codec is huffyuv",
    ]
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", '{"max_aspect_ratio": 2}')  # a wish of whoever asks
    assert "at most 2 times as long" in next(predict(model_uri, [wide]))["error"]


@pytest.mark.parametrize("num_clips", [0, 33])
def test_the_number_of_clips_has_bounds(model_uri: str, small_data: Path, num_clips: int) -> None:
    with pytest.raises(UserError, match=f"num_clips={num_clips}: expected a whole number from 1 to 32"):
        list(predict(model_uri, [small_data], num_clips=num_clips))


@pytest.mark.parametrize(
    ("uri", "path", "reason"),
    [
        (None, "nowhere.mp4", "nowhere.mp4: no such file or folder"),
        (None, ".", "expected at least one video file"),
        ("models:/nothing/1", None, "models:/nothing/1: .*expected a model that this project logged"),
        ("./no-model", None, "./no-model: .*expected a model that this project logged"),
    ],
)
def test_what_is_not_there_is_named(
    tracking: str, model_uri: str, small_data: Path, uri: str | None, path: str | None, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        list(predict(uri or model_uri, [Path(path) if path else small_data]))


def test_videos_are_taken_as_they_are_needed(model_uri: str, small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, few are held at a time."""
    opened: list[Path] = []
    (video, *_) = small_data.rglob("*.mp4")
    folder = small_data.parent / "endless"
    folder.mkdir(exist_ok=True)
    for number in range(200):
        (folder / f"{number:03}.mp4").symlink_to(video)
    open_file = os.open

    def watch(path: object, *arguments: int, **named: int) -> int:
        if str(path).startswith(str(folder)):
            opened.append(Path(str(path)))
        return open_file(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", watch)
    rows = predict(model_uri, [folder])
    for _ in range(20):
        next(rows)
    assert 20 <= len(opened) <= 20 + 40
    rows.close()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_is_gone_on_with(model_uri: str, small_data: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"rows{suffix}"
    awkward = tmp_path / 'a "quoted", broken\nname.mp4'
    awkward.write_bytes((small_data / "val" / "left_clockwise" / "5.mp4").read_bytes())
    unnamable = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    unnamable.write_bytes(b"no video")
    first = [awkward, unnamable, small_data / "val"]
    assert predict_to_file(model_uri, first, output) == PredictionCounts(present=0, added=6, errors=1)
    before = read(output)
    twice = [*first, small_data, small_data / "test"]
    assert predict_to_file(model_uri, twice, output) == PredictionCounts(6, 14, 0)
    rows = read(output)
    assert list(rows.columns) == COLUMNS
    assert rows[:6].equals(before)
    assert rows["path"].is_unique
    assert set(rows["path"]) == {
        str(awkward),
        f"{tmp_path}/\\xff.mp4",
        *map(str, small_data.rglob("*.mp4")),
    }
    expected = {row["path"]: row["label"] for row in predict(model_uri, [small_data])}
    assert {path: dict(zip(rows["path"], rows["label"], strict=True))[path] for path in expected} == expected


def test_every_row_is_in_the_file_before_the_next_one_is_known(
    model_uri: str, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rows.csv"
    lines: list[int] = []
    append = prediction_files.PredictionFile.append

    def watch(*arguments: object) -> None:
        append(*arguments)  # type: ignore[arg-type]
        lines.append(len(output.read_text().splitlines()))

    monkeypatch.setattr(prediction_files.PredictionFile, "append", watch)
    predict_to_file(model_uri, [small_data / "val"], output)
    assert lines == [2, 3, 4, 5]


def test_parts_of_a_parquet_file_are_written_in_time(
    model_uri: str, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_files, "PART_ROWS", 3)
    output = tmp_path / "rows.parquet"
    predict_to_file(model_uri, [small_data / "val"], output)
    assert [len(pd.read_parquet(part)) for part in sorted(output.iterdir())] == [3, 1]
    monkeypatch.setattr(prediction_files, "PART_SECONDS", 0.0)
    predict_to_file(model_uri, [small_data / "val", small_data / "test"], output)
    assert [len(pd.read_parquet(part)) for part in sorted(output.iterdir())] == [3, 1, 1, 1, 1, 1]
    assert len(read(output)) == 8


@pytest.mark.parametrize("torn", ["/a/b.mp4,ape,0.", '"/a/b', '"/a/b\n', "/a/b.mp4,ape,0.7,,,m,1"])
def test_a_torn_row_is_dropped(model_uri: str, small_data: Path, tmp_path: Path, torn: str) -> None:
    output = tmp_path / "rows.csv"
    predict_to_file(model_uri, [small_data / "val"], output)
    whole = output.read_text()
    output.write_text(whole + torn)
    assert predict_to_file(model_uri, [small_data / "val"], output) == PredictionCounts(4, 0, 0)
    assert output.read_text() == whole


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predictions_of_another_kind_are_not_mixed(
    model_uri: str, small_data: Path, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"rows{suffix}"
    predict_to_file(model_uri, [small_data / "val"], output)
    with pytest.raises(
        UserError, match=r"holds predictions of model \w+ over 1 clips of each video: expected \w+ over 2"
    ):
        predict_to_file(model_uri, [small_data / "val"], output, num_clips=2)
    assert len(read(output)) == 4
    assert predict_to_file(model_uri, [small_data / "val"], output) == PredictionCounts(4, 0, 0)  # it was let go


def test_files_that_cannot_be_written_are_named(model_uri: str, small_data: Path, tmp_path: Path) -> None:
    for name, reason in (
        ("rows.txt", r"expected a name that ends in \.csv or \.parquet"),
        ("nowhere/rows.csv", r"cannot be written \(No such file or directory\)"),
        ("nowhere/rows.parquet", r"cannot be written \(No such file or directory\)"),
        ("other.csv, row 1", "expected the columns path,label,"),
        ("changed.csv, row 2", "expected the columns path,label,"),
    ):
        (tmp_path / "other.csv").write_text("a,b\n1,2\n")
        (tmp_path / "changed.csv").write_text(",".join(COLUMNS) + "\n1,2\n")
        with pytest.raises(UserError, match=rf"{name}: {reason}"):
            predict_to_file(model_uri, [small_data / "val"], tmp_path / name.partition(",")[0])
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"
    with (tmp_path / "taken.csv").open("w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"taken\.csv: another process writes to it"):
            predict_to_file(model_uri, [small_data / "val"], tmp_path / "taken.csv")


def start(model_uri: str, folder: Path, output: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "vjepa_mlflow", "predict", model_uri, str(folder), "-o", str(output)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_rows(output: Path, number: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not output.exists() or output.read_bytes().count(b"\n") <= number:
        assert process.poll() is None, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos, some of them bad."""
    folder = tmp_path_factory.mktemp("many")
    kinds = [write_video(folder / f"{frames}.avi", frames=frames, codec="mpeg4").read_bytes() for frames in (9, 20, 33)]
    kinds.append(b"no video")
    for path in folder.iterdir():
        path.unlink()
    for number in range(MANY):
        (folder / f"{number:03}.avi").write_bytes(kinds[number % 4])
    return folder


def test_killed_half_way_and_run_again_every_file_has_one_row(
    model_uri: str, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rows.csv"
    process = start(model_uri, many, output)
    wait_for_rows(output, MANY // 2, process)
    process.kill()
    process.communicate()
    after_kill = output.read_text().count("\n") - 1
    assert MANY // 2 <= after_kill < MANY
    main(["predict", model_uri, str(many), "-o", str(output)])
    printed = capsys.readouterr().out
    assert printed.startswith(f"{MANY} predictions in {output}, {after_kill} of them from before; ")
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == MANY
    assert {row["path"] for row in rows} == {str(path) for path in many.iterdir()}
    assert Counter(bool(row["error"]) for row in rows) == {True: MANY // 4, False: MANY - MANY // 4}


def test_an_interrupt_stops_after_a_row_and_says_how_to_go_on(
    model_uri: str, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rows.csv"
    append = prediction_files.PredictionFile.append

    def interrupt_at_20(file: prediction_files.PredictionFile, row: prediction_files.PredictionRow) -> None:
        append(file, row)
        if output.read_text().count("\n") == 21:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(prediction_files.PredictionFile, "append", interrupt_at_20)
    with pytest.raises(
        KeyboardInterrupt, match=r"interrupted: 20 predictions in .*rows\.csv; the same command goes on"
    ):
        predict_to_file(model_uri, [many], output)
    assert len(read(output)) == 20
