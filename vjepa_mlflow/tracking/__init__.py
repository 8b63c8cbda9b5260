"""The only room that speaks to an MLflow run."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.tracking.artifacts import download, list_files, read_beginning
    from vjepa_mlflow.tracking.delivery import mark_as_table
    from vjepa_mlflow.tracking.ending import FAILURE_TAG
    from vjepa_mlflow.tracking.entries import DamageError, write_about
    from vjepa_mlflow.tracking.first_answer import wake_tracking
    from vjepa_mlflow.tracking.joining import Job
    from vjepa_mlflow.tracking.launched import stay_killed
    from vjepa_mlflow.tracking.log import HEAD_FILE, RunLog, table_json
    from vjepa_mlflow.tracking.outbox_folder import MODEL, MODEL_NOTE, UNNAMED_MODEL, name_model, read_publication
    from vjepa_mlflow.tracking.prepared import end_launched_run
    from vjepa_mlflow.tracking.registry import (
        SEEN,
        alias_holder,
        describe_version,
        evaluated_on_tag,
        evaluation_tags,
        find_logged_model,
        move_alias,
        register_model,
        registered_version,
        seen_tag,
        source_run,
        tag_version,
        version_tags,
    )
    from vjepa_mlflow.tracking.resuming import RESUMED_TAG, resumed_log
    from vjepa_mlflow.tracking.starting import run_log
    from vjepa_mlflow.tracking.trials import (
        STATE_TAG,
        TRIAL_TAG,
        DeletedRunError,
        end_left_runs,
        end_trial_run,
        find_trial_run,
        leave_trial_run,
        study_params,
        trial_log,
        trial_run_id,
    )
    from vjepa_mlflow.tracking.undelivered import UndeliveredError
    from vjepa_mlflow.tracking.unfinished import check_unfinished, find_unfinished, resumable
    from vjepa_mlflow.tracking.upload import left_log
    from vjepa_mlflow.tracking.versions import library_versions

__getattr__ = load_when_used(__name__)
