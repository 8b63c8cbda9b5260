"""The only room that speaks to an MLflow run."""

from vjepa_mlflow.tracking.run import FAILURE_TAG, RunLog, fail_launched_run, run_log

__all__ = ["FAILURE_TAG", "RunLog", "fail_launched_run", "run_log"]
