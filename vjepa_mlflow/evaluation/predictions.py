"""A model's predictions for labelled videos."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class VideoPredictions:
    """A model's predictions beside the truth, a row for each video.

    Attributes:
        labels: the classes, in the order of the model's outputs.
        targets: the true classes as indices, of shape (videos,).
        probabilities: of shape (videos, classes).
        groups: which videos belong together, numbered from 0, of shape (videos,). Videos of one group are no
            independent evidence.
    """

    labels: list[str]
    targets: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def grouped(self) -> bool:
        """Whether any videos belong together."""
        return len(np.unique(self.groups)) < len(self)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The most probable classes as indices, of shape (videos,)."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def confidences(self) -> np.ndarray:
        """The probabilities of the predicted classes, of shape (videos,)."""
        return self.probabilities.max(axis=1)

    @cached_property
    def hits(self) -> np.ndarray:
        """Whether each prediction is right, of shape (videos,)."""
        return self.predicted == self.targets

    @cached_property
    def confusion(self) -> np.ndarray:
        """How many videos of a class (rows) are predicted as a class (columns), of shape (classes, classes)."""
        counts = np.zeros((len(self.labels), len(self.labels)), dtype=int)
        np.add.at(counts, (self.targets, self.predicted), 1)
        return counts
