"""The program that has the last word on a run that `mlflow run` prepared, where its process was asked to stop.

    python -m vjepa_mlflow.tracking.launched RUN_ID

When a process has failed, or was interrupted, `mlflow run` marks its run as FAILED, also one that was KILLED: MLflow
3.17 means to leave runs alone that have ended, and compares their status, a word, with numbers. So this outlives the
process that starts it, whose end it knows by that of its standard input.
"""

import os
import subprocess
import sys
import time

from vjepa_mlflow.runtime.processes import importable

READY = b"ready"
SECONDS = 10
"""From the end of a process until `mlflow run` has surely seen it."""

PAUSE = 0.05


def stay_killed(run_id: str) -> None:
    """Has a run that is KILLED stay so when this process ends, which it is about to do."""
    no_patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(SECONDS)}
    watcher = subprocess.Popen(
        [sys.executable, "-m", __name__, run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # where no terminal reaches it
        env=importable({**os.environ, **no_patience}),
    )
    assert watcher.stdout is not None
    watcher.stdout.read(len(READY))  # or nothing, where it could not do it


def main(run_id: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient()
    killed = client.get_run(run_id).info
    os.write(1, READY)
    sys.stdin.read()
    deadline = time.monotonic() + SECONDS
    while killed.status == "KILLED" and time.monotonic() < deadline:
        status = client.get_run(run_id).info.status
        if status == "FAILED":
            client.set_terminated(run_id, "KILLED", killed.end_time)
        if status != "KILLED":  # else somebody goes on with it
            return
        time.sleep(PAUSE)


if __name__ == "__main__":
    main(sys.argv[1])
