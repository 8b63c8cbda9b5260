"""The data set plugin, through MLflow's own names for it, and what it costs to import."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from helpers import environment
from mlflow import MlflowClient

from vjepa_mlflow import UserError

PROGRAM = """
import sys
import mlflow
import vjepa_mlflow.evaluator  # as MLflow does where models are evaluated

assert not {"torch", "transformers", "av"} & set(sys.modules)
dataset = mlflow.data.from_video_folder(sys.argv[1])
with mlflow.start_run() as run:
    mlflow.log_input(dataset, context="training")
(used,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
source = mlflow.data.get_source(used)
print(len(source.load()))
"""


def test_a_plain_script_logs_a_folder_and_reads_its_source_back(
    tracking: str, small_data: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small_data)],
        cwd=tmp_path,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "18" in done.stdout.splitlines()


def test_a_folder_has_digest_schema_and_profile(small_data: Path) -> None:
    dataset = mlflow.data.from_video_folder(small_data)
    described = dataset.to_dict()
    assert (described["name"], described["source_type"]) == (small_data.stem, "labelled_videos")
    profile = json.loads(described["profile"])
    assert (profile["videos"], profile["classes"]) == (18, 2)
    assert profile["videos_by_class"] == {"left_clockwise": 9, "right_clockwise": 9}
    assert profile["minutes"] == pytest.approx(18 * 2.5 / 60)
    columns = json.loads(described["schema"])["mlflow_colspec"]
    assert [(column["name"], column["type"]) for column in columns] == [("video", "binary"), ("label", "string")]
    test = mlflow.data.from_video_folder(small_data, split="test")
    assert (test.name, test.profile["videos"]) == (f"{small_data.stem}-test", 4)


def test_the_digest_goes_by_content_and_label(small_data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_data, tmp_path / "copy"))
    digest = mlflow.data.from_video_folder(small_data).digest
    assert mlflow.data.from_video_folder(copy).digest == digest
    (copy / "test" / "left_clockwise").rename(copy / "test" / "up_clockwise")
    relabelled = mlflow.data.from_video_folder(copy).digest
    changed = copy / "test" / "right_clockwise" / "7.mp4"
    changed.write_bytes((copy / "test" / "right_clockwise" / "8.mp4").read_bytes())
    assert len({digest, relabelled, mlflow.data.from_video_folder(copy).digest}) == 3
    assert mlflow.data.from_video_folder(copy, name="mine", digest="abc").digest == "abc"


def test_an_evaluation_gets_the_videos_that_it_was_made_of(small_data: Path, tmp_path: Path) -> None:
    shutil.copytree(small_data / "val", tmp_path / "set/val")
    dataset = mlflow.data.from_video_folder(tmp_path / "set", split="val")
    given = dataset.to_evaluation_dataset()
    video = tmp_path / "set" / given.features_data.path[0]
    assert (given.digest, given.features_data.video[0]) == (dataset.digest, video.read_bytes())
    assert given.labels_data[0] == video.parent.name
    video.write_bytes(video.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{video.name}: it has changed since the data set was made"):
        dataset.to_evaluation_dataset()
    video.unlink()
    with pytest.raises(UserError, match=f"{video.name}: it cannot be read"):
        dataset.to_evaluation_dataset()


def test_a_video_in_two_classes_is_refused(small_data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_data, tmp_path / "copy"))
    shutil.copy(copy / "train" / "left_clockwise" / "0.mp4", copy / "train" / "right_clockwise" / "0.mp4")
    with pytest.raises(UserError, match=r"left_clockwise/0.mp4 .* and train/right_clockwise/0.mp4 .* are the same"):
        mlflow.data.from_video_folder(copy)


@pytest.fixture
def table(small_data: Path) -> Path:
    path = small_data / "table.csv"
    rows = [f"{video.relative_to(small_data)},{video.parent.name}" for video in sorted(small_data.rglob("*.mp4"))]
    path.write_text("\n".join(["path,label", *rows]))
    yield path
    path.unlink()


def test_a_table_is_logged_and_its_source_read_back(tracking: str, table: Path) -> None:
    dataset = mlflow.data.from_video_table(table)
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="test")
    (used,) = MlflowClient().get_run(run.info.run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("table", dataset.digest)
    rows = mlflow.data.get_source(used).load()
    assert list(rows.columns) == ["path", "label", "split", "group"]
    assert all(Path(path).is_file() for path in rows["path"])
    assert set(rows["label"]) == {"left_clockwise", "right_clockwise"}


def test_mistakes_are_named(small_data: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"table\.csv: no such folder"):
        mlflow.data.from_video_folder(table)
    with pytest.raises(UserError, match="no such table"):
        mlflow.data.from_video_table(small_data)
    with pytest.raises(UserError, match="split=dev: expected one of train, val, test"):
        mlflow.data.from_video_folder(small_data, split="dev")
    copy = Path(shutil.copytree(small_data, tmp_path / "copy"))
    (copy / "val" / "left_clockwise" / "5.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"5\.mp4: it cannot be decoded .*: expected a readable video"):
        mlflow.data.from_video_folder(copy)
