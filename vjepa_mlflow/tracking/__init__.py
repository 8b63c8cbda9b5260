"""The only room that speaks to an MLflow run."""

from vjepa_mlflow.tracking.run import FAILURE_TAG, RunLog, fail_launched_run, one_line, run_log

__all__ = ["FAILURE_TAG", "RunLog", "fail_launched_run", "one_line", "run_log"]
