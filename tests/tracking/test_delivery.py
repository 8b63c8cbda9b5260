"""Entries on their way to an SQLite file; `test_outbox_contract.py` has what must hold of every server."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import mlflow
import pandas as pd
from mlflow import MlflowClient

from vjepa_mlflow.tracking import Job, run_log
from vjepa_mlflow.tracking.lifecycle import open_log

JOB = Job.of("train", {"epochs": 5}, {"epochs": 5})


def test_two_runs_log_the_same_data_set_for_the_first_time_at_once(tracking: str) -> None:
    """MLflow's own `log_input` fails in this test within a few data sets."""
    at_once = Barrier(2)

    def log(_: int) -> str:
        with mlflow.start_run() as run, open_log(run.info.run_id) as log:
            for number in range(20):
                at_once.wait(timeout=10)
                log.input(mlflow.data.from_pandas(pd.DataFrame({"name": [str(number)]})), context="train")
        return run.info.run_id

    with ThreadPoolExecutor(2) as threads:
        for run_id in threads.map(log, range(2)):
            assert len(MlflowClient().get_run(run_id).inputs.dataset_inputs) == 20


def test_a_table_is_replaced_and_not_added_to(tracking: str) -> None:
    with run_log(JOB) as log:
        for rows in (3, 2):
            log.data_frame(pd.DataFrame({"row": range(rows)}), "rows.json")
    table = mlflow.load_table("rows.json", run_ids=[log.run_id])
    assert table["row"].tolist() == [0, 1]
    assert "rows.json" in MlflowClient().get_run(log.run_id).data.tags["mlflow.loggedArtifacts"]
