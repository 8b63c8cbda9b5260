"""Trainings and a sweep on a real tracking server: away, away for good, with a registry that refuses, killed."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import mlflow
import optuna
import pytest
from helpers import REPOSITORY, environment, points, wait_until
from mlflow import MlflowClient
from optuna.storages import RDBStorage
from runs import check_run

from tools.outages import mlflow_server
from tools.proxy import Proxy
from vjepa_mlflow import Recipe, TrainingResult, UserError, flavor, train, upload
from vjepa_mlflow.cli import main
from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.search import SharedStudy, heartbeat
from vjepa_mlflow.tracking import FAILURE_TAG, STATE_TAG, TRIAL_TAG, UndeliveredError

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def proxy(module_tracking: Path, empty_store: Path) -> Iterator[Proxy]:
    """Before a server, which is the tracking server. Its database is MLflow's matter; that of studies is PostgreSQL."""
    shutil.copy(empty_store, module_tracking / "server.db")
    with closing(sqlite3.connect(module_tracking / "server.db")) as store, store:
        store.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")  # by way of the server
    with mlflow_server(module_tracking, "sqlite:///server.db") as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "10")  # soon one after the other
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        proxy = Proxy(address)
        patch.setenv("MLFLOW_TRACKING_URI", proxy.address)
        mlflow.set_tracking_uri(proxy.address)
        yield proxy


@pytest.fixture(scope="module")
def recipe(small_data: Path) -> Recipe:
    return Recipe(data=str(small_data), model="tiny", epochs=3, learning_rate=1e-3)


@pytest.fixture(scope="module")
def undisturbed(proxy: Proxy, recipe: Recipe) -> TrainingResult:
    """Registers `models:/undisturbed/1`."""
    return train(replace(recipe, registered_model_name="undisturbed"))


def test_a_run_on_a_server_holds_everything_is_registered_and_trained_further(
    undisturbed: TrainingResult, recipe: Recipe
) -> None:
    check_run(undisturbed, recipe)
    assert undisturbed.model_uri == "models:/undisturbed/1"
    head = flavor.load_model(undisturbed.model_uri).model.classifier.weight

    further = train(replace(recipe, model=undisturbed.model_uri, learning_rate=1e-12, epochs=1))
    assert MlflowClient().get_run(further.run_id).data.params["checkpoint"] == undisturbed.model_uri
    continued = flavor.load_model(further.model_uri).model.classifier.weight
    assert (continued - head).abs().max() < 1e-6  # the same classes: the classifier goes on where it was


def check_same(run_id: str, undisturbed: TrainingResult) -> None:
    client = MlflowClient()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert FAILURE_TAG not in run.data.tags
    assert points(run_id) == points(undisturbed.run_id)
    names = [{artifact.path for artifact in client.list_artifacts(run)} for run in (run_id, undisturbed.run_id)]
    assert names[0] == names[1]
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    assert model.status == "READY"
    attached = {metric.key: metric.value for metric in model.metrics if metric.key.startswith("test_")}
    assert attached == {name: run.data.metrics[name] for name in attached} != {}


def test_while_the_server_is_away_nothing_is_lost(proxy: Proxy, recipe: Recipe, undisturbed: TrainingResult) -> None:
    """Which of its entries the outbox was delivering makes no difference: see `tracking/test_outbox.py`."""
    proxy.cut_when_sent(b"report.html", 1.5)
    result = train(recipe)
    assert not proxy.is_armed
    check_same(result.run_id, undisturbed)
    assert not (cache_folder() / "outbox" / result.run_id).exists()


def test_what_a_server_that_stays_away_has_not_got_is_uploaded_later_and_no_password_is_written_anywhere(
    proxy: Proxy,
    module_tracking: Path,
    recipe: Recipe,
    undisturbed: TrainingResult,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(proxy.address.replace("//", f"//ann:{PLANTED}@"))
    said: list[str] = []
    proxy.cut_when_sent(b"model-00001-of-00002.safetensors", 1e6)
    with pytest.raises(UndeliveredError) as missing:
        train(recipe)
    assert str(missing.value).startswith(f"tracking URI {proxy.address}: it has not taken all of the run (")
    said += capfd.readouterr()
    assert "it has not taken all of the run" not in said[-1]  # but for the error
    folder = Path(str(missing.value).partition("vjepa-mlflow upload ")[2])
    assert folder.is_dir()
    with pytest.raises(UserError, match=f"^tracking URI {proxy.address}: it does not answer"):
        upload(folder)
    assert find_planted(folder) == []
    proxy.join()
    said += capfd.readouterr()
    main(["upload", str(folder)])
    assert not folder.exists()
    said += capfd.readouterr()
    told = dict(line.split()[:2] for line in said[-2].splitlines() if line)
    check_same(told["Run"], undisturbed)
    assert mlflow.pyfunc.load_model(told["Model"])
    with pytest.raises(UserError, match=rf"^{folder}: expected a folder that a run named"):
        upload(folder)
    mlflow.set_tracking_uri(proxy.address)
    assert PLANTED not in "".join([*said, *capfd.readouterr(), str(missing.value)])
    assert find_planted(module_tracking, cache_folder()) == []


PLANTED = "hunter2-planted"


def find_planted(*folders: Path) -> list[Path]:
    """The files that hold the password: of the database, the artifacts and the cache."""
    files = [Path(place) / name for folder in folders for place, _, names in os.walk(folder) for name in names]
    return [path for path in files if path.is_file() and PLANTED.encode() in path.read_bytes()]


def test_a_registry_that_refuses_costs_no_model(
    proxy: Proxy, recipe: Recipe, undisturbed: TrainingResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient()
    client.create_prompt("motions")  # the name is taken by something that is no model
    with pytest.raises(UndeliveredError, match="motions") as refused:
        train(replace(recipe, registered_model_name="motions"))
    run = mlflow.search_runs(output_format="list")[0]
    assert run.info.status == "FAILED"
    assert "motions" in run.data.tags[FAILURE_TAG]
    client.delete_prompt("motions")
    uploaded = upload(Path(str(refused.value).partition("vjepa-mlflow upload ")[2]))
    assert uploaded.model_uri == "models:/motions/1"
    check_same(run.info.run_id, undisturbed)
    assert client.get_model_version("motions", "1").tags["test_accuracy"] == str(run.data.metrics["test_accuracy"])


ENDLESS = 30
"""Trials that no sweep of these tests comes to the end of."""

FOR_EVER = ["--workers", "2", "--trials", str(ENDLESS)]


class Command:
    """A sweep's command, which two workers begin and one ends."""

    def __init__(self, data: Path, storage: str):
        SharedStudy(storage, "shared")  # makes its tables, before this process and the command do so at once
        self._storage = RDBStorage(storage)  # one for all looks: each has connections of its own
        sweep = REPOSITORY / "sweeps" / "baseline.yaml"
        self.arguments = ["sweep", str(sweep), "--data", str(data), "--model", "tiny", "--epochs", "4"]
        self.arguments += ["--study", "shared", "--storage", storage]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "vjepa_mlflow", *self.arguments, *FOR_EVER],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, process: subprocess.Popen[str], *, ended: int, running: int = 1) -> None:
        """Returns once so many trials have ended and so many are being done."""
        while self.count("COMPLETE") < ended or self.count("RUNNING") < running:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)

    def count(self, state: str) -> int:
        with suppress(KeyError):  # there is no study yet
            return sum(trial.state.name == state for trial in self.study().trials)
        return 0

    def trials(self) -> dict[int, list[str]]:
        """The states of the attempts at each trial that has begun."""
        found: dict[int, list[str]] = {}
        for trial in self.study().trials:
            found.setdefault(trial.user_attrs.get("slot", trial.number), []).append(trial.state.name)
        return {trial: states for trial, states in found.items() if states != ["WAITING"]}

    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="shared", storage=self._storage)

    def check(self, *, trials: int) -> None:
        """Everything that must be true of a study that has ended."""
        tries = self.trials()
        assert sorted(tries) == list(range(trials))
        for states in tries.values():
            assert states == ["FAIL"] * (len(states) - 1) + ["COMPLETE"]
        parent = self.study().user_attrs["mlflow_run_id"]
        assert MlflowClient().get_run(parent).info.status == "FINISHED"
        assert len(MlflowClient().get_metric_history(parent, "test_accuracy")) == 1
        runs = mlflow.search_runs(output_format="list", filter_string=f"tags.`mlflow.parentRunId` = '{parent}'")
        assert {(run.info.status, run.data.tags[STATE_TAG]) for run in runs} == {("FINISHED", "COMPLETE")}
        assert sorted(int(run.data.tags[TRIAL_TAG]) for run in runs) == sorted(tries)
        for run in runs:
            steps = [point.step for point in MlflowClient().get_metric_history(run.info.run_id, "val_loss")]
            assert steps == list(range(1, int(run.data.params["epochs"]) + 1))
        models = mlflow.search_logged_models(output_format="list")
        assert [model.source_run_id for model in models].count(parent) == 1


def test_two_workers_are_interrupted_and_killed_and_lose_or_double_no_trial(
    proxy: Proxy,
    small_data: Path,
    postgresql: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sweep = Command(small_data, postgresql())

    def interrupt() -> None:
        wait_until(lambda: sweep.count("COMPLETE") >= 2, seconds=100)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(SystemExit) as stopped:
        main([*sweep.arguments, *FOR_EVER])
    said = capfd.readouterr().err
    assert stopped.value.code == 130, said
    assert "Stopping after this epoch; once more stops at once" in said
    told = re.search(rf"Error: interrupted: (\d+) of {ENDLESS} trials have ended; the same command goes on\n", said)
    assert told is not None, said
    assert sweep.count("RUNNING") == 0
    ended = sweep.count("COMPLETE")
    assert ended == int(told[1])

    process = sweep.start()
    sweep.wait_for(process, ended=ended + 1, running=2)
    process.kill()
    process.wait()
    assert not all(trial.state.is_finished() for trial in sweep.study().trials)

    ended, trials = sweep.count("COMPLETE"), len(sweep.trials())
    capfd.readouterr()
    monkeypatch.setattr(heartbeat, "GRACE_PERIOD", 4)  # nobody else is there to be taken for dead too soon
    main([*sweep.arguments, "--trials", str(trials)])
    assert f"The study goes on: {ended} of {trials} trials have ended" in capfd.readouterr().out
    sweep.check(trials=trials)
