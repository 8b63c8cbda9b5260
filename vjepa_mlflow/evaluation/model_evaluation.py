"""What MLflow's evaluation of a model comes to, with this project's figures: see `vjepa_mlflow.evaluator`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

from vjepa_mlflow.bad_videos import REPORT, STOP
from vjepa_mlflow.data import Sample, few, label_ids, ordered, undivided_groups
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.evaluation.figures import draw, plot_calibration, plot_confusion
from vjepa_mlflow.evaluation.predictions import VideoPredictions
from vjepa_mlflow.evaluation.results import Evaluation, evaluate
from vjepa_mlflow.flavor import BAD_VIDEOS, check_num_clips
from vjepa_mlflow.internals.mlflow_private_evaluators import BuiltInEvaluator, guard, is_apart, load_artifact
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.tracking import mark_as_table, table_json

logger = get_logger(__name__)

VIDEO, PATH, GROUP = "video", "path", "group"
"""Columns: the content of a file; what it is called, and which of them belong together, where the data says so."""

AT_ONCE = 64
"""Videos that the model is asked for in one call at most."""

ALL_CLASSES = 2**31 - 1
"""More than there are, in the integers of a model's signature."""

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
        _check_model(model)
        frame = super().X.get_original()
        samples = _read_samples(frame, self.dataset.labels_data)
        answers = _ask(model, frame[VIDEO], samples, options.num_clips)
        readable = _account_for(answers, samples, options.bad_videos)
        self._features = frame.iloc[readable].reset_index(drop=True)
        found = _measure([samples[index] for index in readable], answers)

        labels, predictions = np.array(answers.labels, dtype=object), found.predictions
        said = pd.DataFrame(
            {"score": predictions.confidences, "warning": [answers.warnings[index] for index in readable]}
        )
        predicted, true = pd.Series(labels[predictions.predicted]), labels[predictions.targets]
        self.metrics_values.update(_metric_values(found, unreadable=len(samples) - len(readable)))
        self.evaluate_metrics(extra_metrics, prediction=predicted, target=true, other_output_df=said)
        self.evaluate_and_log_custom_artifacts(custom_artifacts, prediction=predicted, target=true)
        self.log_metrics()
        tables = found.tables()
        tables["predictions"] = _with_unreadable(
            pd.concat([tables["predictions"], said["warning"], self._scores()], axis=1), samples, answers
        )
        for name, table in tables.items():
            self._log_table(name, table)
        for name, plot in (("confusion_matrix", plot_confusion), ("calibration", plot_calibration)):
            with matplotlib.rc_context({"figure.autolayout": False, "font.size": 10}):  # of which MLflow has others
                self._log(name, f"{name}.png", draw(plot(predictions)), ImageEvaluationArtifact)
        return EvaluationResult(metrics=self.aggregate_metrics, artifacts=self.artifacts, run_id=self.run_id)

    @property
    def X(self) -> Any:  # noqa: N802, MLflow's name
        """The columns beside the labels, of the videos that can be read: what users' metrics are told."""
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
        bad_videos: whether a video that cannot be read stops the evaluation, or is only told of.
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


def _check_model(model: PyFuncModel) -> None:
    if is_apart(model):
        raise UserError(
            f"env_manager={model.env_manager}: of a model in another environment MLflow gives labels alone, without "
            "their probabilities: expected env_manager=local"
        )


def _read_samples(frame: pd.DataFrame, labels: np.ndarray) -> list[Sample]:
    """The rows as labelled videos, named by their column `path`, or by their index."""
    if VIDEO not in frame:
        raise UserError(
            f"data: no column '{VIDEO}': expected the content of a video file in each row of it; the columns beside "
            f"the targets are {few(list(map(str, frame.columns)), shown=20) or 'none'}"
        )
    if frame.empty:
        raise UserError("data: no row: expected at least one video")
    names = [f"row {index}" for index in frame.index]
    if PATH in frame:
        names = [name if _is_missing(path) else str(path) for path, name in zip(frame[PATH], names, strict=True)]
    if without := [name for name, label in zip(names, labels, strict=True) if _is_missing(label)]:
        raise UserError(f"targets: {len(without)} of {len(names)} videos have no label: {few(without)}: expected one")
    groups = [None if _is_missing(group) else str(group) for group in frame.get(GROUP, [None] * len(frame))]
    rows = zip(names, labels, groups, frame[VIDEO], strict=True)
    return [Sample(Path(name), name, str(label), group=group, digest=_digest(v)) for name, label, group, v in rows]


def _is_missing(value: Any) -> bool:
    return value is None or (np.ndim(value) == 0 and bool(pd.isna(value))) or not str(value).strip()


def _digest(content: Any) -> str:
    """Of what cannot be a video as well, which the model says."""
    value = content if isinstance(content, bytes | bytearray) else str(content).encode(errors="replace")
    return hashlib.sha256(value).hexdigest()


@dataclass
class _Answers:
    """What a model says of each video.

    Attributes:
        labels: its classes; empty while it has said nothing of any video.
        probabilities: of them, of shape (classes,); None where the video cannot be read.
        warnings: what is wrong with the video all the same.
        errors: why it cannot be read.
    """

    labels: list[str] = field(default_factory=list)
    probabilities: list[np.ndarray | None] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes in a row of the model's answer."""
        scores = {pair["label"]: pair["score"] for pair in row["top_k"]}
        self.labels = self.labels or ordered(scores)
        self.probabilities.append(np.array([scores[label] for label in self.labels]) if scores else None)
        self.warnings.append(row["warning"])
        self.errors.append(row["error"])


def _ask(model: PyFuncModel, videos: pd.Series, samples: Sequence[Sample], num_clips: int) -> _Answers:
    """Has the model classify the videos, few at once, so that labels it does not know are told of early."""
    answers = _Answers()
    at_once = min(AT_ONCE, model.model_config.get("max_videos", AT_ONCE))
    params = {"num_clips": num_clips, "top_k": ALL_CLASSES, "bad_videos": REPORT}
    _check_signature(model, params)
    for start in range(0, len(videos), at_once):
        part = videos.iloc[start : start + at_once]
        for row in model.predict(pd.DataFrame({VIDEO: part.to_numpy()}), params=params).to_dict("records"):
            answers.add(row)
        _check_labels(samples, answers.labels)
    return answers


def _check_signature(model: PyFuncModel, params: Mapping[str, Any]) -> None:
    """Refuses a model that was saved with another signature, without a parameter that MLflow would then drop."""
    schema = model.metadata.get_params_schema()
    taken = {one.name for one in schema.params} if schema else set()
    if missing := [name for name in params if name not in taken]:
        raise UserError(
            f"model: its signature has no parameter {few(missing)}: expected that of vjepa_mlflow.save_model"
        )


def _check_labels(samples: Sequence[Sample], labels: Sequence[str]) -> None:
    foreign = {sample.label: sample.name for sample in reversed(samples) if labels and sample.label not in labels}
    if foreign:
        shown = few([f"'{label}' ({foreign[label]})" for label in sorted(foreign)], shown=20)
        raise UserError(
            f"targets: {len(foreign)} of its classes {'is' if len(foreign) == 1 else 'are'} none of the model's: "
            f"{shown}: expected some of {few(labels, shown=20)}"
        )


def _account_for(answers: _Answers, samples: Sequence[Sample], bad_videos: str) -> list[int]:
    """The videos that can be read; of the others all is told.

    Raises:
        UserError: there are others, which is to be so, or none can be read.
    """
    bad = [f"{sample.name}: {error}" for sample, error in zip(samples, answers.errors, strict=True) if error]
    told = f"{len(bad)} of {len(samples)} videos cannot be read: {few(bad)}"
    if len(bad) == len(samples):
        raise UserError(f"data: {told}")
    if bad and bad_videos == STOP:
        raise UserError(
            f"data: {told}: expected video files; evaluator_config={{'bad_videos': 'report'}} leaves them out"
        )
    if bad:
        logger.warning(f"Left out, as the table of predictions says: {told}")
    return [index for index, error in enumerate(answers.errors) if not error]


def _measure(samples: Sequence[Sample], answers: _Answers) -> Evaluation:
    """Everything that is said of the model but for what would need the videos decoded once more."""
    _, groups = np.unique(undivided_groups(samples), return_inverse=True)
    predictions = VideoPredictions(
        labels=answers.labels,
        targets=np.array(label_ids(samples, answers.labels)),
        probabilities=np.stack([said for said in answers.probabilities if said is not None]),
        groups=groups,
    )
    return evaluate([sample.name for sample in samples], predictions, [])


def _metric_values(found: Evaluation, *, unreadable: int) -> dict[str, MetricValue]:
    """The figures by name, each with the ends of its interval beside it where it has one."""
    values: dict[str, float] = {"videos": len(found.names), "unreadable_videos": unreadable}
    for name, estimate in found.metrics.items():
        values[name] = estimate.value
        if estimate.ends is not None:
            values[f"{name}_low"], values[f"{name}_high"] = estimate.ends
    return {name: MetricValue(aggregate_results={name: value}) for name, value in values.items()}


def _with_unreadable(predictions: pd.DataFrame, samples: Sequence[Sample], answers: _Answers) -> pd.DataFrame:
    """The table of predictions with a row for each video that has none, and why."""
    rows = [
        {"path": sample.name, "label": sample.label, "error": error}
        for sample, error in zip(samples, answers.errors, strict=True)
        if error
    ]
    return pd.concat([predictions.assign(error=""), pd.DataFrame(rows)], ignore_index=True) if rows else predictions
