import csv
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from helpers import EPOCH_METRICS, TEST_METRICS, without_times
from huggingface_hub import ModelCard
from mlflow import MlflowClient
from runs import check_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vjepa_mlflow import Recipe, UserError, flavor, train, video
from vjepa_mlflow.evaluation import thumbnails
from vjepa_mlflow.runtime import streams, workers
from vjepa_mlflow.tracking import FAILURE_TAG

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def recipe(small_data: Path) -> Recipe:
    return Recipe(data=str(small_data), model="tiny", epochs=2, learning_rate=1e-3)


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


def test_missing_splits_are_drawn_and_told(
    tracking: str, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (small_data / "train").iterdir():
        shutil.copytree(folder, tmp_path / "classes" / folder.name)
        shutil.copy(small_data / "val" / folder.name / "5.mp4", tmp_path / "classes" / folder.name)
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
        ({"data": "nowhere"}, "data=nowhere: no such folder or table"),
        ({"model": "./nowhere"}, "model=./nowhere: no such folder"),
        ({"model": ""}, "model=: no name: expected a Hub id"),
        ({"model": "models:/motions"}, "model=models:/motions: of no version: expected models:/NAME/VERSION"),
        ({"country": "Atlantis"}, "country=Atlantis: expected an ISO 3166 alpha-3 code"),
        ({"device": "cuda:7"}, "device=cuda:7: this machine has"),
    ],
)
def test_what_the_recipe_names_wrongly_starts_no_run(tracking: str, recipe: Recipe, changes: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        train(replace(recipe, **changes))
    assert not mlflow.search_runs(output_format="list")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "own-cache"))
    return tmp_path / "own-cache"


def spoil(videos: Iterable[Path]) -> None:
    """In a way that only who opens them can see."""
    for path in videos:
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_second_run_opens_no_video_and_is_the_same_and_a_picture_that_is_lost_costs_no_model(
    tracking: str,
    own_cache: Path,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = train(recipe)
    encoded = len(list((own_cache / "features").rglob("*.safetensors")))
    assert f"\nEncoded {encoded} clips in " in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.delattr(workers._Workers, "submit")  # by which all videos are opened
        patch.delattr(streams, "start_process")
        second = train(recipe)
    assert "Encoded" not in capsys.readouterr().out
    assert without_times(second.metrics) == without_times(first.metrics)
    heads = [flavor.load_model(result.model_uri).model.classifier.weight for result in (first, second)]
    assert torch.equal(*heads)

    lost = video.VideoError("it cannot be decoded")
    monkeypatch.setattr(thumbnails, "read_thumbnails", lambda files, *_, **__: [lost] * len(files))
    third = train(recipe)
    assert without_times(third.metrics) == without_times(first.metrics)
    assert "test/left_clockwise/7.mp4: it cannot be decoded" in capsys.readouterr().err
    assert MlflowClient().get_run(third.run_id).info.status == "FINISHED"


def test_the_run_is_the_same_wherever_features_are_kept_and_only_the_disks_cache_is_written_to(
    tracking: str, own_cache: Path, recipe: Recipe
) -> None:
    kept = []
    for cache in ("memory", "off", "disk"):
        assert not [path for path in own_cache.rglob("*") if path.is_file()]
        kept.append(train(replace(recipe, cache=cache, views=1)))
    assert without_times(kept[0].metrics) == without_times(kept[1].metrics) == without_times(kept[2].metrics)
    heads = [flavor.load_model(result.model_uri).model.classifier.weight for result in kept]
    assert torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], heads[2])
