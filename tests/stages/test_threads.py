import pytest
import torch
from mlflow import MlflowClient

from vjepa_mlflow.stages.threads import CPU_THREADS, threads_of_run
from vjepa_mlflow.tracking import Job, resumed_log, run_log

JOB = Job.of("train", {}, {})


def test_they_are_logged_and_the_callers_are_left_alone(tracking: str) -> None:
    before = torch.get_num_threads()
    with run_log(JOB) as log, threads_of_run(log, before + 2):
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before
    assert MlflowClient().get_run(log.run_id).data.params[CPU_THREADS] == str(before + 2)


@pytest.mark.parametrize(("logged", "expected"), [("2", 2), ("a user's own words", 3), ("0", 3), (None, 3)])
def test_a_run_that_goes_on_keeps_what_it_began_with(tracking: str, logged: str | None, expected: int) -> None:
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    if logged is not None:
        client.log_param(run_id, CPU_THREADS, logged)
    with resumed_log(run_id, JOB) as log, threads_of_run(log, 3):
        assert torch.get_num_threads() == expected
    assert client.get_run(run_id).data.params[CPU_THREADS] == (logged or "3")
