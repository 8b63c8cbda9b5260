"""Everything that is said of a model on a set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from vjepa_mlflow.evaluation.factors import FACTORS, Slice, slice_by_factors
from vjepa_mlflow.evaluation.intervals import FEWEST, TOO_FEW, Estimate
from vjepa_mlflow.evaluation.metrics import TITLES, ClassResult, measure, measure_classes
from vjepa_mlflow.evaluation.predictions import VideoPredictions
from vjepa_mlflow.video import VideoProperties


@dataclass(frozen=True)
class Evaluation:
    """A model on a set of videos.

    Attributes:
        names: the videos, as the data names them.
        predictions: of the model for each.
        properties: what was measured of each; empty where nothing was.
        metrics: of the set, by name, see `vjepa_mlflow.metrics`.
        classes: how it does on each class, the most difficult first.
        slices: how it does on thirds of the set by each property.
    """

    names: list[str]
    predictions: VideoPredictions
    properties: list[VideoProperties]
    metrics: dict[str, Estimate]
    classes: list[ClassResult]
    slices: list[Slice]

    @property
    def values(self) -> dict[str, float]:
        """The metrics without their intervals."""
        return {name: estimate.value for name, estimate in self.metrics.items()}

    def metrics_of(self, split: str) -> dict[str, float]:
        """The metrics without their intervals, by the names that they are logged under for such a set."""
        return {f"{split}_{name}": value for name, value in self.values.items()}

    @property
    def untested(self) -> bool:
        """Whether there are too few groups to tell any slice from the rest."""
        return self.predictions.grouped and len(np.unique(self.predictions.groups)) < FEWEST

    @property
    def weaknesses(self) -> list[Slice]:
        """The slices that are significantly worse than the rest, the most significant first."""
        return sorted((part for part in self.slices if part.worse), key=lambda part: part.p_value)

    @property
    def confident_mistakes(self) -> list[int]:
        """The videos that are wrong, the most confident first."""
        wrong = np.flatnonzero(~self.predictions.hits)
        return wrong[np.argsort(-self.predictions.confidences[wrong], kind="stable")].tolist()

    @property
    def uncertain_hits(self) -> list[int]:
        """The videos that are right, the least confident first."""
        right = np.flatnonzero(self.predictions.hits)
        return right[np.argsort(self.predictions.confidences[right], kind="stable")].tolist()

    def summary(self) -> str:
        """The metrics with their intervals, and the weaknesses, as lines of text."""
        width = max(map(len, TITLES.values()))
        lines = [
            f"{TITLES[name]:<{width}}  {estimate.value:.3f}  ({estimate.interval(3)})"
            for name, estimate in self.metrics.items()
        ]
        lines += [
            f"Worse than the rest: {FACTORS[part.factor].title.lower()}, {part.tercile} ({part.span}): "
            f"accuracy {part.accuracy.value:.3f}"
            for part in self.weaknesses
        ]
        if self.untested:
            lines.append(f"Worse than the rest: {TOO_FEW} to tell")
        return "\n".join(lines)

    def tables(self) -> dict[str, pd.DataFrame]:
        """The figures as tables: `metrics`, `classes`, `slices`, and `predictions` with a row for each video."""
        return {
            "metrics": pd.DataFrame([{"metric": name, **part._asdict()} for name, part in self.metrics.items()]),
            "classes": pd.DataFrame([_class_row(result) for result in self.classes]),
            "slices": pd.DataFrame([_slice_row(part) for part in self.slices], columns=SLICE_COLUMNS),
            "predictions": pd.DataFrame([self._prediction_row(index) for index in range(len(self.names))]),
        }

    def _prediction_row(self, index: int) -> dict[str, object]:
        predictions = self.predictions
        return {
            "path": self.names[index],
            "label": predictions.labels[predictions.targets[index]],
            "predicted": predictions.labels[predictions.predicted[index]],
            "score": float(predictions.confidences[index]),
            "score_of_label": float(predictions.probabilities[index, predictions.targets[index]]),
            "correct": bool(predictions.hits[index]),
            **(asdict(self.properties[index]) if self.properties else {}),
        }


SLICE_COLUMNS = ["factor", "tercile", "from", "to", "videos", "accuracy", "low", "high", "p_value", "worse"]


def evaluate(names: Sequence[str], predictions: VideoPredictions, properties: Sequence[VideoProperties]) -> Evaluation:
    """Works out what there is to say.

    Args:
        names: of the videos.
        predictions: of the same videos.
        properties: of the same videos; empty where none are measured.
    """
    columns = pd.DataFrame([asdict(measured) for measured in properties])
    return Evaluation(
        names=list(names),
        predictions=predictions,
        properties=list(properties),
        metrics=measure(predictions),
        classes=measure_classes(predictions),
        slices=slice_by_factors(predictions, {str(name): values.to_numpy() for name, values in columns.items()}),
    )


def _class_row(result: ClassResult) -> dict[str, object]:
    return {
        "label": result.label,
        "support": result.support,
        "precision": result.precision,
        "recall": result.recall.value,
        "recall_low": result.recall.low,
        "recall_high": result.recall.high,
        "f1": result.f1,
        "confused_with": ", ".join(f"{label} ({count})" for label, count in result.confused_with),
    }


def _slice_row(part: Slice) -> list[object]:
    return [part.factor, part.tercile, part.low, part.high, part.videos, *part.accuracy, part.p_value, part.worse]
