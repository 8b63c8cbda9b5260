"""The labelled video, and the listing: what every reader of folders and tables returns."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vjepa_mlflow.video import FileVersion

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """A labelled video file.

    Attributes:
        path: the file, absolute.
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


@dataclass
class Listing:
    """What a folder or a table was understood as.

    Attributes:
        samples: its labelled videos.
        left_out: what else is there and is not used: by the reason, the names of folders, files, columns and rows.
        notes: what else one should know of how it was read, in sentences.
    """

    samples: list[Sample] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, name: str) -> None:
        """Takes in that something is not used."""
        self.left_out.setdefault(reason, []).append(name)

    def describe_left_out(self, *, shown: int = 3) -> list[str]:
        """What is there and is not used: a line for each reason, with some names."""
        return [f"{reason} ({len(names)}): {few(names, shown=shown)}" for reason, names in self.left_out.items()]

    def extend(self, other: "Listing") -> None:
        """Takes in another part of the same data."""
        self.samples += other.samples
        self.notes += other.notes
        for reason, names in other.left_out.items():
            self.left_out.setdefault(reason, []).extend(names)


def few(names: Sequence[str], *, shown: int = 3) -> str:
    """Some of the names, for a sentence."""
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def describe_samples(samples: Sequence[Sample]) -> str:
    """How many videos there are, with a digest of their names, labels, splits and groups."""
    rows = sorted([sample.name, sample.label, sample.split, sample.group] for sample in samples)
    return f"{len(rows)} videos ({hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]})"


def describe_contents(samples: Sequence[Sample]) -> str:
    """How many videos there are, with a digest of their contents and labels, wherever they lie."""
    rows = sorted([sample.digest, sample.label] for sample in samples)
    return f"{len(rows)} videos ({hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]})"


def label_ids(samples: Sequence[Sample], labels: Sequence[str]) -> list[int]:
    """The samples' classes as indices into `labels`."""
    index = {label: number for number, label in enumerate(labels)}
    return [index[sample.label] for sample in samples]


def sorted_labels(samples: Sequence[Sample]) -> list[str]:
    """The classes in a fixed order, see `ordered`."""
    return ordered({sample.label for sample in samples})


def ordered(labels: Collection[str]) -> list[str]:
    """Classes by number where all are numbers, otherwise by name."""
    if all(label.isdecimal() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
