"""The splits that a run began with, so that it goes on with them."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa_mlflow.data.samples import SPLITS, Sample
from vjepa_mlflow.data.splits import VideoDataset
from vjepa_mlflow.errors import UserError

if TYPE_CHECKING:
    from vjepa_mlflow.model import Checkpoint

COLUMNS = ("path", "label", "split", "group", "sha256")


def split_rows(dataset: VideoDataset) -> Iterator[dict[str, str]]:
    """The rows of `split.csv`: every video in the order of its set."""
    for split in SPLITS:
        for sample in dataset.splits[split]:
            values = (sample.name, sample.label, split, sample.group or "", sample.digest)
            yield dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True)
class Beginning:
    """What a run, or a study, began with.

    Attributes:
        run_id: of it.
        rows: of its `split.csv`.
        labels: the classes, in the order of the model's outputs.
        drawn: which splits were drawn.
        order: how its epochs' orders are drawn.
        seed: of the splits that were drawn.
        model: what the user named, in a sweep for its baseline.
        searched: the fields that a sweep searches.
        revision: of the checkpoint that it was.
    """

    run_id: str
    rows: Sequence[Mapping[str, str]]
    labels: list[str]
    drawn: list[str]
    order: str
    seed: int
    model: str
    searched: frozenset[str]
    revision: str

    @classmethod
    def read(cls, run_id: str, split_csv: bytes, labels_json: bytes, params: Mapping[str, str]) -> "Beginning":
        """Reads what a run logged.

        Raises:
            UserError: it cannot be read as that.
        """
        try:
            text = split_csv.decode(errors="surrogateescape")
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
            if any(row[column] is None for row in rows for column in COLUMNS):
                raise ValueError("cells are missing")
            if not {row["split"] for row in rows} <= {*SPLITS}:
                raise ValueError("other splits")
            labels = json.loads(labels_json.decode(errors="surrogateescape"))
            drawn = params["drawn_splits"]
            return cls(
                run_id=run_id,
                rows=rows,
                labels=[labels[str(index)] for index in range(len(labels))],
                drawn=[] if drawn == "none" else drawn.split(","),
                order=params.get("training_order", "numpy"),  # which had no name then
                seed=int(params.get("split_seed") or params.get("seed") or 0),
                model=params.get("model") or params.get("baseline_model", ""),
                searched=frozenset(name.removeprefix("search_") for name in params if name.startswith("search_")),
                revision=params["checkpoint_revision"],
            )
        except (ValueError, KeyError, csv.Error) as error:
            raise UserError(
                f"run {run_id}: its split.csv and labels.json cannot be read: expected them as logged"
            ) from error

    def sets(self) -> dict[str, list[Sample]]:
        """Its videos by split, as far as it is known of them: their files may be elsewhere now."""
        sets: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        for row in self.rows:
            sample = Sample(
                Path(row["path"]), row["path"], row["label"], row["split"], row["group"] or None, row["sha256"]
            )
            sets[row["split"]].append(sample)
        return sets

    def dataset(self, data: str, samples: Sequence[Sample]) -> VideoDataset:
        """The same sets out of the same videos.

        Args:
            data: what the samples are of.
            samples: with their digests.

        Raises:
            UserError: a video is another one, is not there any more, or was not there.
        """
        by_name = {sample.name: sample for sample in samples}
        splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        for row in self.rows:
            sample = by_name.pop(row["path"], None)
            if sample is None or sample.digest != row["sha256"] or sample.label != row["label"]:
                became = "has gone" if sample is None else "became another video, or of another class,"
                raise self._other(data, f"{row['path']} {became}")
            splits[row["split"]].append(replace(sample, split=row["split"]))
        if by_name:
            raise self._other(data, f"{min(by_name)} was added")
        return VideoDataset(self.labels, splits, self.drawn, self.order, self.seed)

    def check_revision(self, model: str, checkpoint: "Checkpoint") -> None:
        """Refuses a checkpoint that is not the one it began with. Of others, which a sweep tries, nothing is known.

        Args:
            model: what the user named.
            checkpoint: that it is now.

        Raises:
            UserError: its weights are others.
        """
        if model == self.model and checkpoint.revision != self.revision:
            raise UserError(
                f"model={model}: its weights ({checkpoint.revision[:19]}) are not those that run {self.run_id} began "
                f"with ({self.revision[:19]}): expected the same, or a new run or study"
            )

    def _other(self, data: str, what: str) -> UserError:
        return UserError(
            f"data={data}: {what} since run {self.run_id} began: expected the same files; its artifact split.csv lists "
            f"them"
        )
