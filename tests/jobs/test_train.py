import csv
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from helpers import EPOCH_METRICS, TEST_METRICS, free_port, server, without_times
from huggingface_hub import ModelCard
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vjepa_mlflow import Recipe, TrainingResult, UserError, flavor, train
from vjepa_mlflow.data import draw_clip
from vjepa_mlflow.tracking import FAILURE_TAG


@pytest.fixture
def recipe(small_data: Path) -> Recipe:
    return Recipe(data=str(small_data), model="tiny", epochs=2, learning_rate=1e-3)


def check_run(result: TrainingResult, recipe: Recipe) -> None:
    """Everything that a finished run must hold."""
    client = MlflowClient()
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    for name in EPOCH_METRICS:
        history = client.get_metric_history(result.run_id, name)
        assert [point.step for point in history] == list(range(1, recipe.epochs + 1)), name
    for name in {*TEST_METRICS, "duration_seconds"}:
        (point,) = client.get_metric_history(result.run_id, name)
        assert point.step == result.best_epoch
    params = run.data.params
    assert params["learning_rate"] == str(recipe.learning_rate)
    assert params["checkpoint"] == "tiny"
    assert params["checkpoint_revision"].startswith("sha256:")
    assert int(params["trainable_parameters"]) < int(params["total_parameters"])
    assert {
        "version_torch",
        "version_transformers",
        "version_mlflow",
        "device_name",
        "hardware",
        "train_videos",
    } <= set(params)
    assert {(used.tags[0].value, used.dataset.name.split("-")[-1]) for used in run.inputs.dataset_inputs} == {
        ("train", "train"),
        ("val", "val"),
        ("test", "test"),
    }
    artifacts = {artifact.path for artifact in client.list_artifacts(result.run_id)}
    assert {"curves.png", "test_predictions.png", "labels.json", "split.csv", "tensorboard"} <= artifacts
    (model,) = mlflow.search_logged_models(output_format="list", experiment_ids=[run.info.experiment_id])
    # MLflow attaches everything that was logged with the step, and counts system metrics in steps of its own.
    attached = {metric.key: metric.value for metric in model.metrics if not metric.key.startswith("system/")}
    assert attached == pytest.approx(result.metrics)
    assert model.status == "READY"


def test_a_run_on_sqlite_holds_everything(tracking: str, recipe: Recipe, small_data: Path, tmp_path: Path) -> None:
    result = train(recipe)
    check_run(result, recipe)

    folder = Path(mlflow.artifacts.download_artifacts(run_id=result.run_id, dst_path=str(tmp_path)))
    assert json.loads((folder / "labels.json").read_text()) == {"0": "left_clockwise", "1": "right_clockwise"}
    rows = list(csv.DictReader((folder / "split.csv").open()))
    assert len(rows) == len(list(small_data.rglob("*.mp4")))
    assert all(row["path"].startswith(row["split"]) and len(row["sha256"]) == 64 for row in rows)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= EPOCH_METRICS | TEST_METRICS
    assert [event.step for event in events.Scalars("val_accuracy")] == [1, 2]
    assert {"curves", "test_confusion_matrix", "test_predictions"} <= set(events.Tags()["images"])
    card = ModelCard.load(Path(mlflow.artifacts.download_artifacts(result.model_uri)) / "README.md")
    assert "Energy and carbon were not measured: the run named no country" in card.text


def test_the_logged_model_is_the_best_epochs(tracking: str, recipe: Recipe, small_data: Path) -> None:
    result = train(replace(recipe, epochs=3, learning_rate=3e-3))
    history = MlflowClient().get_metric_history(result.run_id, "val_accuracy")
    assert history[result.best_epoch - 1].value == max(point.value for point in history)
    served = mlflow.pyfunc.load_model(result.model_uri)
    tested = sorted((small_data / "test").rglob("*.mp4"))
    answers = [served.predict(flavor.example_input(path.read_bytes()))["label"][0] for path in tested]
    accuracy = sum(answer == path.parent.name for answer, path in zip(answers, tested, strict=True)) / len(tested)
    assert accuracy == pytest.approx(result.metrics["test_accuracy"])


def test_a_run_on_a_server_is_registered_and_trained_further(
    tracking: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", "sqlite:///server.db", "--workers", "1"]
    with server(command, folder=folder, health="/health", port=free_port(), MLFLOW_TRACKING_URI="") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        mlflow.set_tracking_uri(address)
        named = replace(recipe, registered_model_name="motions")
        first = train(named)
        check_run(first, named)
        assert first.model_uri == "models:/motions/1"
        head = flavor.load_model(first.model_uri).model.classifier.weight

        further = train(replace(recipe, model="models:/motions/1", learning_rate=1e-12, epochs=1))
        assert MlflowClient().get_run(further.run_id).data.params["checkpoint"] == "models:/motions/1"
        continued = flavor.load_model(further.model_uri).model.classifier.weight
        assert (continued - head).abs().max() < 1e-6  # the same classes: the classifier goes on where it was


def test_missing_splits_are_drawn_and_told(tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for motion in ("up_clockwise", "down_clockwise"):
        for seed in range(6):
            path = tmp_path / "classes" / motion / f"{seed}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw_clip(motion, seed=seed))
    result = train(Recipe(data=str(tmp_path / "classes"), model="tiny", epochs=1))
    params = MlflowClient().get_run(result.run_id).data.params
    assert (params["train_videos"], params["val_videos"], params["test_videos"]) == ("8", "2", "2")
    assert params["drawn_splits"] == "val,test"
    assert "val and test drawn from train, seed 0" in capsys.readouterr().out


@pytest.fixture
def damaged(small_data: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(small_data, tmp_path / "damaged"))
    (root / "train" / "left_clockwise" / "0.mp4").write_bytes(b"not a video")
    (root / "val" / "right_clockwise" / "5.mp4").write_bytes(b"")
    return root


def test_bad_videos_stop_the_run_before_training(
    tracking: str, recipe: Recipe, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"2 of 18 videos cannot be used, the first is train/left_clockwise/0\.mp4"):
        train(replace(recipe, data=str(damaged)))
    printed = capsys.readouterr().out
    assert "train/left_clockwise/0.mp4: it cannot be decoded" in printed
    assert "val/right_clockwise/5.mp4: it is empty" in printed
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FAILED"
    assert "2 of 18 videos cannot be used" in run.data.tags[FAILURE_TAG]
    assert not [name for name in run.data.metrics if not name.startswith("system/")]
    assert not mlflow.search_logged_models(output_format="list")


def test_bad_videos_are_left_out_when_told_and_logged(
    tracking: str, recipe: Recipe, damaged: Path, tmp_path: Path
) -> None:
    result = train(replace(recipe, data=str(damaged), bad_videos="skip"))
    params = MlflowClient().get_run(result.run_id).data.params
    assert (params["train_videos"], params["val_videos"]) == ("9", "3")
    listed = Path(
        mlflow.artifacts.download_artifacts(
            run_id=result.run_id, artifact_path="bad_videos.csv", dst_path=str(tmp_path)
        )
    )
    assert [row["path"] for row in csv.DictReader(listed.open())] == [
        "train/left_clockwise/0.mp4",
        "val/right_clockwise/5.mp4",
    ]


def test_a_class_that_is_bad_altogether_is_not_dropped(tracking: str, recipe: Recipe, damaged: Path) -> None:
    for path in damaged.rglob("right_clockwise/*.mp4"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no video of class 'right_clockwise' can be used"):
        train(replace(recipe, data=str(damaged), bad_videos="skip"))


def test_a_joined_run_takes_everything_and_goes_on(tracking: str, recipe: Recipe) -> None:
    with mlflow.start_run() as run:
        result = train(replace(recipe, epochs=1))
        assert result.run_id == run.info.run_id
        assert mlflow.active_run() is not None
    assert MlflowClient().get_run(run.info.run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "cuda:7"}, "device=cuda:7: this machine has"),
        ({"data": "nowhere"}, "data=nowhere: no such folder or table"),
        ({"model": "./nowhere"}, "model=./nowhere: no such folder"),
        ({"registered_model_name": "a/b"}, "registered_model_name=a/b: "),
    ],
)
def test_what_the_recipe_names_wrongly_fails_the_run(tracking: str, recipe: Recipe, changes: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        train(replace(recipe, **changes))
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FAILED"
    assert reason in run.data.tags[FAILURE_TAG]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "own-cache"))
    return tmp_path / "own-cache"


def test_a_second_run_opens_no_video_and_is_the_same(
    tracking: str, own_cache: Path, recipe: Recipe, small_data: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(small_data, tmp_path / "data"))
    first = train(replace(recipe, data=str(data)))
    for video in data.rglob("*.mp4"):  # spoilt in a way that only who opens them can see
        status = video.stat()
        video.write_bytes(b"x" * status.st_size)
        os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = train(replace(recipe, data=str(data)))
    assert without_times(second.metrics) == without_times(first.metrics)
    heads = [flavor.load_model(result.model_uri).model.classifier.weight for result in (first, second)]
    assert torch.equal(*heads)


def test_a_video_that_is_lost_for_the_pictures_costs_no_model(
    tracking: str, own_cache: Path, recipe: Recipe, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(small_data, tmp_path / "data"))
    first = train(replace(recipe, data=str(data), epochs=1))
    for video in (data / "test").rglob("*.mp4"):
        status = video.stat()
        video.write_bytes(b"x" * status.st_size)
        os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    shutil.rmtree(own_cache / "thumbnails")
    second = train(replace(recipe, data=str(data), epochs=1))
    assert without_times(second.metrics) == without_times(first.metrics)
    assert "test/left_clockwise/7.mp4: it cannot be decoded" in capsys.readouterr().err
    assert MlflowClient().get_run(second.run_id).info.status == "FINISHED"


def test_the_run_is_the_same_wherever_features_are_kept(tracking: str, own_cache: Path, recipe: Recipe) -> None:
    kept = [train(replace(recipe, cache=cache, views=1)) for cache in ("disk", "memory", "off")]
    assert without_times(kept[0].metrics) == without_times(kept[1].metrics) == without_times(kept[2].metrics)
    heads = [flavor.load_model(result.model_uri).model.classifier.weight for result in kept]
    assert torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], heads[2])


def test_nothing_is_written_to_the_cache_unless_it_is_the_disks(tracking: str, own_cache: Path, recipe: Recipe) -> None:
    for cache in ("memory", "off"):
        train(replace(recipe, cache=cache, epochs=1))
        assert not [path for path in own_cache.rglob("*") if path.is_file()]
