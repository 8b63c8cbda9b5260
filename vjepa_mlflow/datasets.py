"""Labelled videos as MLflow data sets: `mlflow.data.from_video_folder` and `mlflow.data.from_video_table`.

MLflow imports this module whenever it is imported itself, and before it is ready: what is heavy, and what needs
MLflow's own top level, is imported by the functions that use it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.pyfunc_dataset_mixin import PyFuncConvertibleDatasetMixin

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.data.evaluation_dataset import EvaluationDataset
    from mlflow.types import Schema

    from vjepa_mlflow.data import Sample
    from vjepa_mlflow.video import Identity, VideoError

DIGEST_LENGTH = 8
"""Hexadecimal digits, as MLflow recommends."""


class VideoDatasetSource(DatasetSource):
    """A folder or a table of labelled videos on this machine, or on one that shares it.

    Attributes:
        path: of the folder or the table, absolute.
    """

    def __init__(self, path: str):
        self.path = path

    def load(self) -> "pd.DataFrame":
        """Lists the videos that are there now.

        Returns:
            Columns `path`, `label`, `split` and `group`; the last two are None where the data does not give them.

        Raises:
            UserError: there is no such folder or table any more, or it cannot be understood.
        """
        import pandas as pd

        from vjepa_mlflow.data import read_data

        rows = [(str(sample.path), sample.label, sample.split, sample.group) for sample in read_data(self.path).samples]
        return pd.DataFrame(rows, columns=["path", "label", "split", "group"])

    def to_dict(self) -> dict[str, str]:
        return {"path": self.path}

    @classmethod
    def from_dict(cls, source_dict: dict[str, str]) -> "VideoDatasetSource":
        return cls(source_dict["path"])

    @staticmethod
    def _get_source_type() -> str:
        return "labelled_videos"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ARG004, any path could be one, and MLflow's own are to have it
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> "VideoDatasetSource":
        return cls(str(raw_source))


class LabelledVideos(Dataset, PyFuncConvertibleDatasetMixin):
    """Labelled videos, all of a source's or one set of them, which `mlflow.models.evaluate` takes.

    Args:
        samples: the videos, with the digests of their content.
        source: where they come from.
        name: of the data set.
        digest: replaces the one made of the videos' content and labels, which is the same wherever they are.
    """

    def __init__(
        self,
        samples: "Sequence[Sample]",
        source: VideoDatasetSource,
        name: str | None = None,
        digest: str | None = None,
    ):
        self._samples = list(samples)
        super().__init__(source, name, digest)

    def _compute_digest(self) -> str:
        from vjepa_mlflow.files.digest import sha256_of_text

        lines = sorted(f"{sample.digest} {sample.label}" for sample in self._samples)
        return sha256_of_text("\n".join(lines))[:DIGEST_LENGTH]

    def to_dict(self) -> dict[str, str]:
        return {
            **super().to_dict(),
            "schema": json.dumps({"mlflow_colspec": self.schema.to_dict()}),
            "profile": json.dumps(self.profile),
        }

    @property
    def schema(self) -> "Schema":
        """A video's content and its label: what a logged model takes and gives."""
        from mlflow.types import ColSpec, DataType, Schema

        return Schema([ColSpec(DataType.binary, "video"), ColSpec(DataType.string, "label")])

    targets = "label"

    def to_evaluation_dataset(
        self, path: str | None = None, feature_names: "list[str] | None" = None
    ) -> "EvaluationDataset":
        """The videos' contents beside their names, groups and labels, all of them in memory.

        Raises:
            UserError: one cannot be read any more, or is another one than before.
        """
        import pandas as pd
        from mlflow.data.evaluation_dataset import EvaluationDataset

        rows = [(sample.name, sample.group, sample.label, _read(sample)) for sample in self._samples]
        return EvaluationDataset(
            pd.DataFrame(rows, columns=["path", "group", self.targets, "video"]),
            targets=self.targets,
            name=self.name,
            path=path,
            feature_names=feature_names,
            digest=self.digest,
        )

    @property
    def profile(self) -> dict[str, Any]:
        """How many videos and minutes there are, and how many videos of each class."""
        labels = [sample.label for sample in self._samples]
        counts = {label: labels.count(label) for label in sorted(set(labels))}
        minutes = sum(sample.seconds for sample in self._samples) / 60
        return {"videos": len(labels), "classes": len(counts), "minutes": round(minutes, 2), "videos_by_class": counts}


def dataset_of_split(samples: "Sequence[Sample]", data: str, split: str) -> LabelledVideos:
    """The data set of one split of `data`, a folder, a table or `demo`; the samples have been read."""
    from vjepa_mlflow.data import locate_data

    root = locate_data(data).resolve()
    return LabelledVideos(samples, VideoDatasetSource(str(root)), name=f"{root.stem}-{split}")


def from_video_folder(
    path: str | Path, split: str | None = None, name: str | None = None, digest: str | None = None
) -> LabelledVideos:
    """Makes an MLflow data set of a folder: `CLASS/...`, `SPLIT/CLASS/...`, or one that holds split lists.

    Every file is read for its digest and its duration; none is decoded.

    Args:
        path: the folder.
        split: train, val or test; None for all videos.
        name: of the data set; by default that of the folder, and of the split.
        digest: replaces the computed one.

    Raises:
        UserError: there is no such folder, it has no such videos, one of them cannot be read, or one is in two classes.
    """
    return _from_path(Path(path), "folder", Path(path).expanduser().is_dir(), split, name, digest)


def from_video_table(
    path: str | Path, split: str | None = None, name: str | None = None, digest: str | None = None
) -> LabelledVideos:
    """Makes an MLflow data set of a table `path,label[,split][,group]`, or of a list of `path label` lines.

    Like `from_video_folder` but for the path.
    """
    return _from_path(Path(path), "table", Path(path).expanduser().is_file(), split, name, digest)


def _from_path(
    path: Path, kind: str, there: bool, split: str | None, name: str | None, digest: str | None
) -> LabelledVideos:
    from vjepa_mlflow.data import SPLITS, check_content, locate_data, read_data
    from vjepa_mlflow.errors import UserError
    from vjepa_mlflow.video import identify_videos

    if not there:
        raise UserError(f"{path}: no such {kind} (looked in {Path.cwd()})")
    if split not in (None, *SPLITS):
        raise UserError(f"split={split}: expected one of {', '.join(SPLITS)}, or None")
    samples = [sample for sample in read_data(str(path)).samples if split in (None, sample.split)]
    if not samples:
        raise UserError(f"{path}: no video of split {split}: expected at least one")
    found = identify_videos([sample.path for sample in samples])
    videos = [_identified(sample, identity) for sample, identity in zip(samples, found, strict=True)]
    source = VideoDatasetSource(str(locate_data(str(path)).resolve()))
    check_content(str(path), videos)
    return LabelledVideos(videos, source, name or "-".join(filter(None, [path.stem, split])), digest)


def _read(sample: "Sample") -> bytes:
    import hashlib

    from vjepa_mlflow.errors import UserError, one_line
    from vjepa_mlflow.files.reading import open_regular

    try:
        with open_regular(sample.path) as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"{sample.path}: it cannot be read ({one_line(error)}): expected a video") from error
    if hashlib.sha256(content).hexdigest() != sample.digest:
        raise UserError(f"{sample.path}: it has changed since the data set was made: expected the same video")
    return content


def _identified(sample: "Sample", identity: "Identity | VideoError") -> "Sample":
    from dataclasses import replace

    from vjepa_mlflow.errors import UserError
    from vjepa_mlflow.video import VideoError

    if isinstance(identity, VideoError):
        raise UserError(f"{sample.path}: {identity}: expected a readable video") from identity
    return replace(sample, **identity._asdict())
