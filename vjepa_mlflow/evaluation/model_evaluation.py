"""What MLflow's evaluation of a model comes to, with this project's figures: see `vjepa_mlflow.evaluator`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import mlflow
import numpy as np
import pandas as pd
from mlflow.metrics.base import MetricValue
from mlflow.models.evaluation.artifacts import ImageEvaluationArtifact, JsonEvaluationArtifact
from mlflow.models.evaluation.base import EvaluationArtifact, EvaluationMetric, EvaluationResult
from mlflow.pyfunc import PyFuncModel

from vjepa_mlflow.bad_videos import STOP
from vjepa_mlflow.data import Sample, few, label_ids, undivided_groups
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.evaluation.figures import draw, plot_calibration, plot_confusion
from vjepa_mlflow.evaluation.model_answers import VIDEO, Answers, ask, check_model, read_samples, readable_videos
from vjepa_mlflow.evaluation.predictions import VideoPredictions
from vjepa_mlflow.evaluation.results import Evaluation, evaluate
from vjepa_mlflow.flavor import BAD_VIDEOS, check_num_clips
from vjepa_mlflow.internals.mlflow_private_evaluators import BuiltInEvaluator, guard, load_artifact
from vjepa_mlflow.tracking import mark_as_table, table_json

FOREIGN = ("average", "label_list", "pos_label", "sample_weights")
"""What would change figures of MLflow's own evaluator of classifiers, and cannot change these."""


class ModelEvaluation(BuiltInEvaluator):
    """An evaluation that logs and returns what MLflow's own evaluators do: metrics, artifacts, and what users add."""

    @classmethod
    def can_evaluate(cls, **_: Any) -> bool:
        return True  # `vjepa_mlflow.evaluator` has looked

    def _evaluate(
        self,
        model: PyFuncModel,
        extra_metrics: list[EvaluationMetric],
        custom_artifacts: list[Any] | None = None,
        **_: Any,
    ) -> EvaluationResult:
        options = _Options.read(self.evaluator_config)
        check_model(model)
        frame = super().X.get_original()
        samples = read_samples(frame, self.dataset.labels_data)
        answers = ask(model, frame[VIDEO], samples, options.num_clips)
        readable = readable_videos(answers, samples, options.bad_videos)
        self._features = frame.iloc[readable].reset_index(drop=True)
        evaluation = _measure([samples[index] for index in readable], answers)

        labels, predictions = np.array(answers.labels, dtype=object), evaluation.predictions
        scores_and_warnings = pd.DataFrame(
            {"score": predictions.confidences, "warning": [answers.warnings[index] for index in readable]}
        )
        predicted, true = pd.Series(labels[predictions.predicted]), labels[predictions.targets]
        self.metrics_values.update(_metric_values(evaluation, unreadable=len(samples) - len(readable)))
        self.evaluate_metrics(extra_metrics, prediction=predicted, target=true, other_output_df=scores_and_warnings)
        self.evaluate_and_log_custom_artifacts(custom_artifacts, prediction=predicted, target=true)
        self.log_metrics()
        tables = evaluation.tables()
        tables["predictions"] = _with_unreadable(
            pd.concat([tables["predictions"], scores_and_warnings["warning"], self._scores()], axis=1), samples, answers
        )
        for name, table in tables.items():
            self._log_table(name, table)
        for name, plot in (("confusion_matrix", plot_confusion), ("calibration", plot_calibration)):
            with matplotlib.rc_context({"figure.autolayout": False, "font.size": 10}):  # of which MLflow has others
                self._log(name, f"{name}.png", draw(plot(predictions)), ImageEvaluationArtifact)
        return EvaluationResult(metrics=self.aggregate_metrics, artifacts=self.artifacts, run_id=self.run_id)

    @property
    def X(self) -> Any:  # noqa: N802, MLflow's name
        """The columns beside the labels, of the videos that can be read: what users' metrics get."""
        return guard(self._features)

    def _scores(self) -> pd.DataFrame:
        """What users' metrics say of each video."""
        columns: dict[str, Any] = {}
        for name, value in self.metrics_values.items():
            columns |= {f"{name}/score": value.scores, f"{name}/justification": value.justifications}
        return pd.DataFrame({name: list(values) for name, values in columns.items() if values is not None})

    def _log_table(self, name: str, table: pd.DataFrame) -> None:
        if not table.empty:
            file = self._log(name, f"{name}.json", table_json(table), JsonEvaluationArtifact)
            mark_as_table(self.client, self.run_id, file)

    def _log(self, name: str, file: str, content: bytes, kind: type[EvaluationArtifact]) -> str:
        """Logs a file as an artifact of the run and of the result, and returns what it is called there."""
        prefix = str(self.evaluator_config.get("metric_prefix", "")).replace("/", "_")
        path = Path(self.temp_dir.path(f"{prefix}{file}"))
        path.write_bytes(content)
        self.client.log_artifact(self.run_id, str(path))
        self.artifacts[name] = kind(uri=mlflow.get_artifact_uri(path.name))
        load_artifact(self.artifacts[name], path)
        return path.name


@dataclass(frozen=True)
class _Options:
    """What `evaluator_config` may say of this evaluation.

    Attributes:
        num_clips: clips of a video that are averaged.
        bad_videos: whether a video that cannot be read stops the evaluation, or is only reported.
    """

    num_clips: int
    bad_videos: str

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "_Options":
        if foreign := [name for name in FOREIGN if name in config]:
            raise UserError(
                f"evaluator_config: {few(foreign, shown=len(foreign))}: expected none of that, since every video and "
                "class counts the same; it is for MLflow's own evaluators, whose configurations go by their names"
            )
        num_clips, bad_videos = config.get("num_clips", 1), config.get("bad_videos", STOP)
        if not isinstance(num_clips, int):
            raise UserError(f"evaluator_config: num_clips={num_clips!r}: expected a whole number")
        check_num_clips(num_clips)
        if bad_videos not in BAD_VIDEOS:
            raise UserError(f"evaluator_config: bad_videos={bad_videos}: expected one of {', '.join(BAD_VIDEOS)}")
        return cls(num_clips, bad_videos)


def _measure(samples: Sequence[Sample], answers: Answers) -> Evaluation:
    """Everything that is said of the model but for what would need the videos decoded once more."""
    _, groups = np.unique(undivided_groups(samples), return_inverse=True)
    predictions = VideoPredictions(
        labels=answers.labels,
        targets=np.array(label_ids(samples, answers.labels)),
        probabilities=np.stack([row for row in answers.probabilities if row is not None]),
        groups=groups,
    )
    return evaluate([sample.name for sample in samples], predictions, [])


def _metric_values(evaluation: Evaluation, *, unreadable: int) -> dict[str, MetricValue]:
    """The figures by name, each with the ends of its interval beside it where it has one."""
    values: dict[str, float] = {"videos": len(evaluation.names), "unreadable_videos": unreadable}
    for name, estimate in evaluation.metrics.items():
        values[name] = estimate.value
        if estimate.ends is not None:
            values[f"{name}_low"], values[f"{name}_high"] = estimate.ends
    return {name: MetricValue(aggregate_results={name: value}) for name, value in values.items()}


def _with_unreadable(predictions: pd.DataFrame, samples: Sequence[Sample], answers: Answers) -> pd.DataFrame:
    """The table of predictions with a row for each video that has none, and why."""
    rows = [
        {"path": sample.name, "label": sample.label, "error": error}
        for sample, error in zip(samples, answers.errors, strict=True)
        if error
    ]
    return pd.concat([predictions.assign(error=""), pd.DataFrame(rows)], ignore_index=True) if rows else predictions
