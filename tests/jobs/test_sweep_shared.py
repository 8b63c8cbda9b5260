"""Sweeps by several processes, on real databases and a real tracking server, killed and interrupted."""

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import mlflow
import optuna
import pytest
from helpers import REPOSITORY, environment, free_port, server
from mlflow import MlflowClient
from optuna.storages import RDBStorage

from vjepa_mlflow.sweep import SharedStudy
from vjepa_mlflow.tracking import STATE_TAG, TRIAL_TAG, wake_tracking

SWEEP = REPOSITORY / "sweeps" / "baseline.yaml"
KILLS = 1
"""Of each sweep. Two and five have been tried as well; each takes half a minute."""


class Command:
    """A sweep's command with two workers, started again and again."""

    def __init__(self, data: Path, *, trials: int, epochs: int, storage: str):
        self.trials = trials
        SharedStudy(storage, "shared")  # makes its tables, before this process and the command do so at once
        self._storage = RDBStorage(storage)  # one for all looks: each has connections of its own
        self._command = [sys.executable, "-m", "vjepa_mlflow", "sweep", str(SWEEP), "--workers", "2"]
        self._command += ["--data", str(data), "--model", "tiny", "--epochs", str(epochs)]
        self._command += ["--trials", str(trials), "--study", "shared", "--storage", storage]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self) -> str:
        done = self.start()
        output, _ = done.communicate(timeout=200)
        assert done.returncode == 0, output
        return output

    def attempts(self) -> int:
        """Attempts at trials that have begun so far."""
        with suppress(KeyError):  # there is no study yet
            return sum(trial.state.name != "WAITING" for trial in self.study().trials)
        return 0

    def wait_for_attempts(self, process: subprocess.Popen[str], count: int) -> None:
        """Returns once so many have begun, which a process that goes on will do."""
        while self.attempts() < count:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)

    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="shared", storage=self._storage)

    def check(self) -> None:
        """Everything that must be true of a study that has ended."""
        study = self.study()
        slots: dict[int, list[str]] = {}
        for trial in study.trials:
            slots.setdefault(trial.user_attrs.get("slot", trial.number), []).append(trial.state.name)
        assert len(slots) == self.trials
        for states in slots.values():
            assert states == ["FAIL"] * (len(states) - 1) + ["COMPLETE"]
        parent = study.user_attrs["mlflow_run_id"]
        assert MlflowClient().get_run(parent).info.status == "FINISHED"
        assert len(MlflowClient().get_metric_history(parent, "test_accuracy")) == 1
        runs = mlflow.search_runs(output_format="list", filter_string=f"tags.`mlflow.parentRunId` = '{parent}'")
        assert {(run.info.status, run.data.tags[STATE_TAG]) for run in runs} == {("FINISHED", "COMPLETE")}
        assert sorted(int(run.data.tags[TRIAL_TAG]) for run in runs) == sorted(slots)
        for run in runs:
            steps = [point.step for point in MlflowClient().get_metric_history(run.info.run_id, "val_loss")]
            assert steps == list(range(1, int(run.data.params["epochs"]) + 1))
        models = mlflow.search_logged_models(output_format="list")
        assert [model.source_run_id for model in models].count(parent) == 1


def test_sweeps_that_are_killed_again_and_again_end_with_the_trials_asked_for(
    tracking: str, small_data: Path, postgresql: Callable[[], str]
) -> None:
    """On SQLite and on PostgreSQL, both at the same time, since starting takes longest."""

    def run(storage: str) -> Command:
        command = Command(small_data, trials=8, epochs=12, storage=storage)
        moments = random.Random(storage.partition(":")[0])
        for _ in range(KILLS):
            before = command.attempts()
            process = command.start()
            command.wait_for_attempts(process, before + 1)
            time.sleep(moments.uniform(0, 1))
            process.kill()
            process.wait()
        assert not all(trial.state.is_finished() for trial in command.study().trials)
        command.finish()
        return command

    wake_tracking()  # MLflow makes its tables, which two cannot do at once
    with ThreadPoolExecutor(2) as both:
        for command in both.map(run, [f"sqlite:///{Path.cwd()}/optuna.db", postgresql()]):
            command.check()


def test_two_workers_on_a_server_are_interrupted_and_lose_or_double_no_trial(
    tracking: str, small_data: Path, tmp_path: Path, postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", postgresql(), "--workers", "1"]
    with server(command, folder=folder, health="/health", port=free_port(), MLFLOW_TRACKING_URI="") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        mlflow.set_tracking_uri(address)
        sweep = Command(small_data, trials=12, epochs=2, storage=postgresql())
        process = sweep.start()
        sweep.wait_for_attempts(process, 5)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        told = re.search(r"Error: interrupted: (\d+) of 12 trials have ended; the same command goes on\n", output)
        assert told is not None, output
        assert "Stopping after this epoch; once more stops at once" in output
        trials = sweep.study().trials
        assert not [trial for trial in trials if trial.state.name == "RUNNING"]
        assert sum(trial.state.name == "COMPLETE" for trial in trials) == int(told[1])

        output = sweep.finish()
        assert f"The study goes on: {told[1]} of 12 trials have ended" in output
        sweep.check()
