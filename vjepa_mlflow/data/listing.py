"""From what the user names to a list of samples."""

from pathlib import Path

from vjepa_mlflow.data.folders import has_split_folders, read_folder
from vjepa_mlflow.data.samples import Sample
from vjepa_mlflow.data.splits import check_samples
from vjepa_mlflow.data.tables import TABLE_SUFFIXES, find_split_lists, read_table
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.paths import expand

DEMO = "demo"


def list_samples(data: str) -> list[Sample]:
    """Like `read_samples`, for training.

    Raises:
        UserError: there is no such folder or table, or what it holds cannot be trained on.
    """
    samples = read_samples(data)
    check_samples(data, samples)
    return samples


def read_samples(data: str) -> list[Sample]:
    """Lists the labelled videos of `data`: a folder, a table, or `demo`. Nothing is decoded.

    Raises:
        UserError: there is no such folder or table, it cannot be understood, or it holds no videos.
    """
    samples = _read(locate_data(data))
    if not samples:
        raise UserError(
            f"data={data}: no videos found: expected class folders, split folders or a table of video files"
        )
    return samples


def locate_data(data: str) -> Path:
    """The folder or table that `data` names; the demo is drawn on first use."""
    if data != DEMO:
        return expand("data", data)
    from vjepa_mlflow.data import demo  # it draws with PyTorch

    return demo.folder()


def _read(root: Path) -> list[Sample]:
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise UserError(f"data={root}: expected a folder, or a table ending in {', '.join(sorted(TABLE_SUFFIXES))}")
        return read_table(root)
    if not root.is_dir():
        raise UserError(f"data={root}: no such folder or table (looked in {Path.cwd()})")
    lists = {} if has_split_folders(root) else find_split_lists(root)
    if lists:
        return [sample for table, split in lists.items() for sample in read_table(table, split=split)]
    return read_folder(root)
