"""Class folders, with or without split folders above them."""

import os
from collections.abc import Iterator
from pathlib import Path

from vjepa_mlflow.data.samples import SPLIT_NAMES, Sample
from vjepa_mlflow.errors import UserError

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)


def find_videos(folder: Path) -> Iterator[Path]:
    """Video files anywhere below a folder, known by their suffix, in a fixed order; hidden ones are passed over."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield Path(parent, name)


def has_split_folders(root: Path) -> bool:
    return bool(_split_folders(root))


def read_folder(root: Path) -> list[Sample]:
    """Reads `root/CLASS/...` or `root/SPLIT/CLASS/...`; a class is named by its folder.

    Raises:
        UserError: there are no videos, or a class folder of the training split is empty.
    """
    splits = _split_folders(root)
    if not splits:
        return _read_classes(root, root, split=None)
    return [sample for folder, split in splits for sample in _read_classes(root, folder, split=split)]


def _split_folders(root: Path) -> list[tuple[Path, str]]:
    return [
        (folder, SPLIT_NAMES[folder.name.lower()]) for folder in _subfolders(root) if folder.name.lower() in SPLIT_NAMES
    ]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_classes(root: Path, folder: Path, *, split: str | None) -> list[Sample]:
    samples = []
    for class_folder in _subfolders(folder):
        videos = list(find_videos(class_folder))
        if not videos and split in (None, "train"):
            raise UserError(
                f"data={root}: class folder {class_folder} holds no videos: expected at least one to train on"
            )
        samples += [
            Sample(path=path, name=path.relative_to(root).as_posix(), label=class_folder.name, split=split)
            for path in videos
        ]
    return samples
