"""A logged model's answers to the rows of a data set, as MLflow gives both to an evaluator."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel

from vjepa_mlflow.bad_videos import REPORT, STOP
from vjepa_mlflow.data import Sample, few, ordered
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.internals.mlflow_private_evaluators import is_apart
from vjepa_mlflow.logs import get_logger

logger = get_logger(__name__)

VIDEO, PATH, GROUP = "video", "path", "group"
"""Columns: the content of a file; what it is called, and which of them belong together, where the data says so."""

AT_ONCE = 64
"""Videos that the model is asked for in one call at most."""

ALL_CLASSES = 2**31 - 1
"""More than there are, in the integers of a model's signature."""


def read_samples(frame: pd.DataFrame, labels: np.ndarray) -> list[Sample]:
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


def check_model(model: PyFuncModel) -> None:
    """Refuses a model whose answers have no probabilities."""
    if is_apart(model):
        raise UserError(
            f"env_manager={model.env_manager}: of a model in another environment MLflow gives labels alone, without "
            "their probabilities: expected env_manager=local"
        )


@dataclass
class Answers:
    """What a model says of each video.

    Attributes:
        labels: its classes; empty until it has answered for a video.
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


def ask(model: PyFuncModel, videos: pd.Series, samples: Sequence[Sample], num_clips: int) -> Answers:
    """Has the model classify the videos, few at once, so that labels that are not its own are reported early."""
    answers = Answers()
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
    accepted = {one.name for one in schema.params} if schema else set()
    if missing := [name for name in params if name not in accepted]:
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


def readable_videos(answers: Answers, samples: Sequence[Sample], bad_videos: str) -> list[int]:
    """The indices of the videos that can be read; of the others all is told.

    Raises:
        UserError: there are others, which is to be so, or none can be read.
    """
    bad = [f"{sample.name}: {error}" for sample, error in zip(samples, answers.errors, strict=True) if error]
    message = f"{len(bad)} of {len(samples)} videos cannot be read: {few(bad)}"
    if len(bad) == len(samples):
        raise UserError(f"data: {message}")
    if bad and bad_videos == STOP:
        raise UserError(
            f"data: {message}: expected video files; evaluator_config={{'bad_videos': 'report'}} leaves them out"
        )
    if bad:
        logger.warning(f"Left out, as the table of predictions says: {message}")
    return [index for index, error in enumerate(answers.errors) if not error]
