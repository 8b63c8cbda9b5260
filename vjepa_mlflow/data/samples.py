"""The labelled video: what every reader of folders and tables returns."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vjepa_mlflow.video import FileVersion

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The names a split goes by in folders, tables and list files, and what it is called here."""


@dataclass(frozen=True)
class Sample:
    """A labelled video file.

    Attributes:
        path: the file.
        name: the file as the user's data names it, relative to the folder or table; the same on every machine.
        label: its class.
        split: train, val or test; None until one is drawn.
        group: samples of one group stay in one split; None for a sample of its own.
        digest: SHA-256 of the content, hexadecimal; empty until the file has been read.
        seconds: how long the video lasts; 0 until then.
        version: of the file as it was read then.
    """

    path: Path
    name: str
    label: str
    split: str | None = None
    group: str | None = None
    digest: str = ""
    seconds: float = 0.0
    version: "FileVersion | None" = None


def describe_samples(samples: Sequence[Sample]) -> str:
    """How many videos there are, with a digest of their names, labels, splits and groups."""
    rows = sorted([sample.name, sample.label, sample.split, sample.group] for sample in samples)
    return f"{len(rows)} videos ({hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]})"


def label_ids(samples: Sequence[Sample], labels: Sequence[str]) -> list[int]:
    """The samples' classes as indices into `labels`."""
    index = {label: number for number, label in enumerate(labels)}
    return [index[sample.label] for sample in samples]


def sorted_labels(samples: Sequence[Sample]) -> list[str]:
    """The classes in a fixed order: by number where all are numbers, otherwise by name."""
    labels = {sample.label for sample in samples}
    if all(label.isdecimal() for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)
