"""`mlflow.models.evaluate` with this project's evaluator, as MLflow calls it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from evaluations import register_evaluator
from mlflow import MlflowClient
from mlflow.data.evaluation_dataset import EvaluationDataset
from mlflow.metrics import MetricValue
from mlflow.models import EvaluationResult, make_metric
from mlflow.pyfunc import _ServedPyFuncModel

from vjepa_mlflow import UserError, flavor
from vjepa_mlflow.data import draw_clip
from vjepa_mlflow.evaluation import ModelEvaluation, VideoPredictions, measure
from vjepa_mlflow.evaluator import VideoEvaluator
from vjepa_mlflow.model import load_classifier, load_processor, locate

LABELS = ["7", "10"]
"""Such as a table's whole numbers are to a model."""


@pytest.fixture(scope="module")
def model(module_tracking: Path) -> mlflow.pyfunc.PyFuncModel:
    checkpoint = locate("tiny")
    with mlflow.start_run():
        logged = flavor.log_model(load_classifier(checkpoint, LABELS, seed=0), load_processor(checkpoint), stride=4)
    return mlflow.pyfunc.load_model(logged.model_uri)


@pytest.fixture(scope="module")
def videos() -> pd.DataFrame:
    motions = ["left_clockwise", "right_clockwise"] * 3
    drawn = [draw_clip(motion, seed=number // 2) for number, motion in enumerate(motions)]
    return pd.DataFrame({"video": drawn, "label": [7, 10] * 3})


def evaluate(model: Any, videos: pd.DataFrame, **options: Any) -> EvaluationResult:
    register_evaluator()
    options = {"targets": "label", "model_type": "classifier", "evaluators": "vjepa_mlflow", **options}
    return mlflow.models.evaluate(model, videos, **options)


def test_the_figures_are_the_projects_and_the_runs_and_the_models(
    model: mlflow.pyfunc.PyFuncModel, videos: pd.DataFrame, undrawn: None
) -> None:
    with mlflow.start_run() as run:
        result = evaluate(model, videos)
    said = [{pair["label"]: pair["score"] for pair in pairs} for pairs in model.predict(videos[["video"]]).top_k]
    probabilities = np.array([[scores[label] for label in LABELS] for scores in said])
    expected = measure(VideoPredictions(LABELS, np.array([0, 1] * 3), probabilities, np.arange(6)))
    assert {name: result.metrics[name] for name in expected} == {name: one.value for name, one in expected.items()}
    assert (result.metrics["accuracy_low"], result.metrics["accuracy_high"]) == expected["accuracy"].ends
    logged = MlflowClient().get_run(run.info.run_id)
    assert logged.data.metrics == pytest.approx(result.metrics)
    (used,) = logged.inputs.dataset_inputs
    of_model = [metric for metric in mlflow.get_logged_model(model.model_id).metrics if metric.key == "accuracy"]
    assert {(metric.run_id, metric.dataset_digest) for metric in of_model} == {(run.info.run_id, used.dataset.digest)}
    assert set(result.artifacts) == {"metrics", "classes", "predictions", "confusion_matrix", "calibration"}
    predictions = mlflow.load_table("predictions.json", run_ids=[run.info.run_id])
    assert list(predictions.path) == [f"row {index}" for index in range(6)]
    assert list(predictions.label) == list(map(int, LABELS)) * 3  # as JSON is read
    assert list(predictions.score) == pytest.approx(probabilities.max(axis=1))


def test_what_users_add_is_told_of_the_videos_that_can_be_read(
    model: mlflow.pyfunc.PyFuncModel, videos: pd.DataFrame, undrawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def sureness(predictions: pd.Series, targets: pd.Series, score: pd.Series, path: pd.Series) -> MetricValue:
        assert "bad.mp4" not in list(path)
        return MetricValue(scores=list(score), aggregate_results={"mean": score.mean()})

    named = videos.assign(path=[f"{index}.mp4" for index in range(6)], group=["a", "b", "c"] * 2)
    named.loc[2, ["video", "path"]] = [b"", "bad.mp4"]
    with mlflow.start_run():
        result = evaluate(
            model,
            named,
            evaluator_config={"bad_videos": "report", "metric_prefix": "new_", "num_clips": 2},
            extra_metrics=[make_metric(eval_fn=sureness, greater_is_better=True)],
            custom_artifacts=[lambda frame, *_: {"said": frame}],
        )
    assert (result.metrics["new_videos"], result.metrics["new_unreadable_videos"]) == (5, 1)
    assert "new_accuracy_low" not in result.metrics  # of three groups
    table = result.tables["predictions"].set_index("path")
    assert table.error["bad.mp4"] == "it is empty: expected the content of a video file"
    readable = table.drop(index="bad.mp4")
    assert list(readable["new_sureness/score"]) == list(readable.score)
    assert result.metrics["new_sureness/new_mean"] == pytest.approx(readable.score.mean())
    assert len(result.artifacts["said"].content) == 5
    assert "1 of 6 videos cannot be read: bad.mp4: it is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "config", "sentence"),
    [
        ({"drop": "video"}, {}, "data: no column 'video': expected .* beside the targets are path"),
        ({"label": None}, {}, "targets: 6 of 6 videos have no label: v0, v1, v2, ...: expected one"),
        ({"label": " "}, {}, "targets: 6 of 6 videos have no label"),
        ({"label": "jump"}, {}, r"targets: 1 of its classes is none of the model's: 'jump' \(v0\): expected .* 7, 10"),
        ({"video": None}, {}, "data: 6 of 6 videos cannot be read: v0: it is of type NoneType"),
        ({"video": [b""] + [None] * 5}, {"bad_videos": "report"}, "data: 6 of 6 videos cannot be read: v0: it is empt"),
        ({"video": "clip.mp4"}, {}, "6 of 6 videos cannot be read: v0: it is text that is no video in base64"),
        ({}, {"bad_videos": "skip"}, "bad_videos=skip: expected one of stop, report"),
        ({}, {"num_clips": 33}, "num_clips=33: expected a whole number from 1 to 32"),
        ({}, {"num_clips": "2"}, "num_clips='2': expected a whole number"),
        ({}, {"sample_weights": [1] * 6, "pos_label": 7}, "pos_label, sample_weights: expected none of that"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    model: mlflow.pyfunc.PyFuncModel, videos: pd.DataFrame, change: dict, config: dict, sentence: str
) -> None:
    frame = videos.assign(path=[f"v{index}" for index in range(6)])
    frame = frame.drop(columns=change["drop"]) if "drop" in change else frame.assign(**change)
    dataset = EvaluationDataset(frame, targets="label")
    with pytest.raises(UserError, match=sentence):
        ModelEvaluation().evaluate(
            model_type="classifier", dataset=dataset, run_id="", evaluator_config=config, model=model
        )


def test_a_model_in_another_environment_is_refused(model: mlflow.pyfunc.PyFuncModel, videos: pd.DataFrame) -> None:
    served = _ServedPyFuncModel(model.metadata, SimpleNamespace(invoke=len), 0, "uv")
    with pytest.raises(UserError, match=r"^env_manager=uv: .* labels alone.*: expected env_manager=local$"):
        ModelEvaluation().evaluate(
            model_type="classifier",
            dataset=EvaluationDataset(videos, targets="label"),
            run_id="",
            evaluator_config={},
            model=served,
        )


def test_a_signature_that_drops_its_parameters_is_refused(
    model: mlflow.pyfunc.PyFuncModel, videos: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.metadata.signature, "params", None)
    with pytest.raises(UserError, match="no parameter num_clips, top_k, bad_videos: expected that"):
        evaluate(model, videos)


def test_other_models_are_left_to_others(model: mlflow.pyfunc.PyFuncModel) -> None:
    class Other:
        class metadata:  # noqa: N801, MLflow's name
            flavors = {"python_function": {}, "sklearn": {}}  # noqa: RUF012

    for other in (None, Other(), len):
        assert VideoEvaluator().evaluate(model=other, dataset=None) is None
    assert not VideoEvaluator.can_evaluate(model_type="regressor", evaluator_config={})
