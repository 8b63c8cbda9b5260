"""What a run could not deliver, delivered."""

from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow import tracking
from vjepa_mlflow.files.temporary import own_temporaries
from vjepa_mlflow.runtime.ranks import check_alone
from vjepa_mlflow.stages.publish import publish_kept


@dataclass(frozen=True)
class UploadResult:
    """What an upload came to.

    Attributes:
        run_id: the MLflow run, which has everything now.
        model_uri: its logged model, or the registered version; None where none had been kept.
    """

    run_id: str
    model_uri: str | None


@own_temporaries()
def upload(folder: Path) -> UploadResult:
    """Takes what a run left in a folder to its tracking server, and deletes the folder.

    Raises:
        UserError: it is no such folder, or the server still does not take it.
    """
    check_alone("upload")
    with tracking.left_log(folder) as log:
        model_uri = publish_kept(log)
    return UploadResult(log.run_id, model_uri)
