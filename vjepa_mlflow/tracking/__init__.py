"""The only room that speaks to an MLflow run."""

from vjepa_mlflow.tracking.run import (
    FAILURE_TAG,
    RESUMED_TAG,
    RunLog,
    download,
    fail_launched_run,
    resumed_log,
    run_log,
    wake_tracking,
)
from vjepa_mlflow.tracking.trials import (
    STATE_TAG,
    TRIAL_TAG,
    end_left_runs,
    end_trial_run,
    trial_log,
    trial_run_id,
)

__all__ = [
    "FAILURE_TAG",
    "RESUMED_TAG",
    "STATE_TAG",
    "TRIAL_TAG",
    "RunLog",
    "download",
    "end_left_runs",
    "end_trial_run",
    "fail_launched_run",
    "resumed_log",
    "run_log",
    "trial_log",
    "trial_run_id",
    "wake_tracking",
]
