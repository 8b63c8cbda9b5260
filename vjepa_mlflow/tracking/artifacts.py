"""What a run has as artifacts, read back."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vjepa_mlflow.data import Beginning
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.temporary import lack_of_room, temporary_folder
from vjepa_mlflow.tracking.log import LABELS_FILE, SPLIT_FILE


def download(run_id: str, name: str, folder: Path) -> Path:
    """Fetches a file that a run has as an artifact, and returns where it is in the folder.

    Raises:
        UserError: the run does not have it any more.
    """
    try:
        return Path(MlflowClient().download_artifacts(run_id, name, str(folder)))
    except Exception as error:
        raise UserError(
            lack_of_room(error)
            or f"run {run_id}: {name} cannot be fetched ({one_line(error)}): expected it as an artifact"
        ) from error


def read_beginning(run_id: str) -> Beginning | None:
    """The data and the checkpoint that a run began with; None where it was stopped before that.

    Raises:
        UserError: what it has cannot be fetched or read.
    """
    try:
        params = MlflowClient().get_run(run_id).data.params
    except MlflowException as error:
        raise UserError(f"run {run_id}: it cannot be read ({one_line(error)})") from error
    if not {SPLIT_FILE, LABELS_FILE} <= set(list_files(run_id, "")) or "checkpoint_revision" not in params:
        return None
    with temporary_folder() as folder:
        split, labels = (download(run_id, name, folder).read_bytes() for name in (SPLIT_FILE, LABELS_FILE))
    return Beginning.read(run_id, split, labels, params)


def list_files(run_id: str, folder: str) -> list[str]:
    """The names of the files in a folder of a run's artifacts.

    Raises:
        UserError: the tracking server does not list them.
    """
    try:
        artifacts = MlflowClient().list_artifacts(run_id, folder)
    except Exception as error:
        raise UserError(f"run {run_id}: {folder} cannot be listed ({one_line(error)})") from error
    return [artifact.path.rpartition("/")[2] for artifact in artifacts if not artifact.is_dir]
