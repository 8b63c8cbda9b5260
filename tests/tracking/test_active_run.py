"""MLflow's active run, as it is started here."""

from contextlib import nullcontext

import mlflow
import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import Job, run_log

JOB = Job.of("train", {"epochs": 5}, {"epochs": 5})


@pytest.mark.parametrize(
    ("switch", "within", "asked"),
    [(None, False, True), ("false", False, False), ("1", True, True), (None, True, False)],
)
def test_system_metrics_are_the_users_to_switch(
    tracking: str, monkeypatch: pytest.MonkeyPatch, switch: str | None, within: bool, asked: bool
) -> None:
    if switch is not None:
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", switch)
    seen = []
    start = mlflow.start_run
    with start(log_system_metrics=False) if within else nullcontext():
        monkeypatch.setattr(
            mlflow, "start_run", lambda log_system_metrics, **given: seen.append(log_system_metrics) or start(**given)
        )
        for job in [JOB] * (1 + within):  # the first one joins a run of the user's, and starts none
            with run_log(job):
                pass
    assert seen == [asked]


def test_a_switch_that_mlflow_does_not_read_is_named(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "off")
    with pytest.raises(UserError, match=r"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING value .* but got off"), run_log(JOB):
        pass
