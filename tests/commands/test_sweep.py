"""The sweep in this process: real trainings, a real study, real MLflow runs."""

import csv
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pandas as pd
import pytest
import torch
import yaml
from helpers import EPOCH_METRICS, without_times
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from vjepa_mlflow import Recipe, SweepResult, UserError, features, run_sweep, training
from vjepa_mlflow.cli import main
from vjepa_mlflow.commands import sweep as job
from vjepa_mlflow.features import contents
from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.runtime import interrupts
from vjepa_mlflow.runtime.patience import PATIENCE, AwayError
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.search import default_storage, trial_training
from vjepa_mlflow.search.progress import TrialProgress
from vjepa_mlflow.search.queue import TrialQueue
from vjepa_mlflow.search.running import TakenOverError
from vjepa_mlflow.search.setups import TrialSetups
from vjepa_mlflow.search.trials import OUTLIVED
from vjepa_mlflow.stages import checkpoints, prepare
from vjepa_mlflow.stages.names import check_names
from vjepa_mlflow.tracking import FAILURE_TAG, RESUMED_TAG, STATE_TAG, TRIAL_TAG, lifecycle

pytestmark = pytest.mark.usefixtures("undrawn")

PICTURES = {"optimization_history.png", "search_space.png", "param_importances.png", "intermediate_values.png"}
SPACE = {
    "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
    "gradient_accumulation_steps": {"choices": [1, 2, 4]},
}


@pytest.fixture(scope="module")
def recipe(small_data: Path) -> Recipe:
    return Recipe(data=str(small_data), model="tiny", epochs=2)


def write_plan(**changes: Any) -> Path:
    """Writes a sweep's file with changes to the working directory."""
    entries = {
        "metric": "val_accuracy",
        "direction": "maximize",
        "trials": 3,
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "space": SPACE,
        **changes,
    }
    path = Path("sweep.yaml")
    path.write_text(yaml.safe_dump(entries))
    return path


@pytest.fixture(scope="module")
def swept(module_tracking: Path, recipe: Recipe) -> SweepResult:
    """A sweep of four trials, whose best one is registered."""
    named = Recipe(**{**vars(recipe), "registered_model_name": "motions"})
    return run_sweep(write_plan(), named, trials=4, study="everything")


def new_setups() -> TrialSetups:
    return TrialSetups(Share(), lambda recipe: prepare.prepare(recipe, check_names(recipe)))


def children(parent: str) -> list[Run]:
    found = mlflow.search_runs(output_format="list", filter_string=f"tags.`mlflow.parentRunId` = '{parent}'")
    return sorted(found, key=lambda run: int(run.data.tags[TRIAL_TAG]))


def history(run_id: str, metric: str = "val_loss") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient().get_metric_history(run_id, metric)]


def artifacts(run_id: str) -> set[str]:
    return {artifact.path for artifact in MlflowClient().list_artifacts(run_id)}


def table(run_id: str) -> list[dict[str, str]]:
    return list(csv.DictReader(mlflow.artifacts.load_text(f"runs:/{run_id}/trials.csv").splitlines()))


def test_the_tree_of_runs_holds_everything(swept: SweepResult, recipe: Recipe) -> None:
    parent = MlflowClient().get_run(swept.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "everything"
    assert PICTURES | {"trials.csv", "sweep.yaml", "labels.json", "split.csv", "curves.png"} <= artifacts(swept.run_id)
    assert parent.data.params["search_learning_rate"] == "1e-06 to 0.01, log, from 1e-05"
    assert "learning_rate" not in parent.data.params  # it is not the model's
    assert parent.data.params["epochs"] == "2"

    runs = children(swept.run_id)
    assert [run.info.run_name for run in runs] == ["trial 0", "trial 1", "trial 2", "trial 3"]
    for run in runs:
        assert (run.info.status, run.data.tags[STATE_TAG]) == ("FINISHED", "COMPLETE")
        for metric in EPOCH_METRICS:
            assert [step for step, _ in history(run.info.run_id, metric)] == [1, 2]
        assert run.data.metrics["seconds"] > 0
        assert set(vars(recipe)) <= set(run.data.params)
    assert (runs[0].data.params["learning_rate"], runs[0].data.params["gradient_accumulation_steps"]) == ("1e-05", "4")
    assert len({run.data.params["learning_rate"] for run in runs}) == 4

    rows = table(swept.run_id)
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    values = [float(row["val_accuracy"]) for row in rows]
    assert values == pytest.approx([run.data.metrics["best_val_accuracy"] for run in runs])
    assert values[swept.best_trial] == max(values) == pytest.approx(swept.metrics["val_accuracy"])
    baseline, best, difference = swept.summary.splitlines()[1:]
    assert baseline.split()[:2] == ["baseline", "0"]
    assert best.split()[:2] == ["best", str(swept.best_trial)]
    assert float(difference.split()[1]) == pytest.approx(max(values) - values[0], abs=1e-4)


def test_the_best_trial_is_tested_once_and_is_the_only_model(swept: SweepResult) -> None:
    assert swept.model_uri == "models:/motions/1"
    (model,) = mlflow.search_logged_models(
        output_format="list", filter_string=f"source_run_id = '{swept.run_id}'", experiment_ids=["0"]
    )
    assert history(swept.run_id, "test_accuracy") == [(4, swept.metrics["test_accuracy"])]
    attached = {metric.key: metric.value for metric in model.metrics if not metric.key.startswith("system/")}
    assert attached.items() >= swept.metrics.items()
    for run in children(swept.run_id):
        assert not [metric for metric in run.data.metrics if metric.startswith("test_")]
        assert artifacts(run.info.run_id) <= {"tensorboard", "head.safetensors"}
    best = children(swept.run_id)[swept.best_trial]
    assert "head.safetensors" in artifacts(best.info.run_id)
    card = Path(mlflow.artifacts.download_artifacts(swept.model_uri)) / "README.md"
    assert "the run is a sweep of 4 trials" in card.read_text()
    assert {"report.html", "test_predictions.json"} <= artifacts(swept.run_id)


def test_the_served_model_says_what_the_best_head_said_of_the_validation_videos(
    swept: SweepResult, recipe: Recipe, tmp_path: Path
) -> None:
    run_id = children(swept.run_id)[swept.best_trial].info.run_id
    best, _ = training.load_best(Path(MlflowClient().download_artifacts(run_id, "head.safetensors", str(tmp_path))))
    setup = new_setups().setup(recipe)
    setup.prepared.head.load_state_dict(best.weights)
    val = features.EvaluationSet.of_split(setup.source, setup.prepared.dataset, "val")
    logits, labels = training.predict(setup.prepared.head, val, precision="fp32", name="val")
    assert (logits.argmax(dim=1) == labels).float().mean().item() == pytest.approx(best.metrics["val_accuracy"])
    expected = logits.softmax(dim=1).max(dim=1)

    videos = pd.DataFrame({"video": [clip.sample.path.read_bytes() for clip in val.clips]})
    answer = mlflow.pyfunc.load_model(swept.model_uri).predict(videos)
    names = setup.prepared.dataset.labels
    assert answer["label"].tolist() == [names[index] for index in expected.indices.tolist()]
    assert answer["score"].tolist() == pytest.approx(expected.values.tolist(), abs=1e-5)


def test_features_are_encoded_once_for_all_trials(
    tracking: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    encoded: list[int] = []
    encode = features.Encoder.encode

    def count(self: features.Encoder, clips: Any) -> Any:
        encoded.append(len(clips))
        return encode(self, clips)

    monkeypatch.setattr(features.Encoder, "encode", count)
    space = {**SPACE, "epochs": {"choices": [2, 3]}}
    run_sweep(write_plan(space=space), recipe, trials=4, study="encoded")
    wanted = 4 + 4 + 3 * 10  # val, test, and three epochs of training
    assert sum(encoded) == wanted
    assert sum(len(space.entries) for space in contents.list_contents()) == wanted


def test_a_sweep_is_the_same_wherever_features_are_kept(tracking: str, recipe: Recipe) -> None:
    results = [
        run_sweep(write_plan(), Recipe(**{**vars(recipe), "cache": cache, "epochs": 1}), trials=1, study=cache)
        for cache in ("disk", "memory", "off")
    ]
    disk, memory, off = (without_times(result.metrics) for result in results)
    assert disk == memory == off


def test_states_are_told_as_trials_ended(tracking: str, recipe: Recipe) -> None:
    file = write_plan(
        metric="val_loss",
        direction="minimize",
        trials=10,
        pruner={"name": "median", "n_startup_trials": 1, "n_warmup_steps": 1},
        space={"learning_rate": {"choices": [1e-12, 3.0, 1e30]}},
    )
    unhurt = Recipe(**{**vars(recipe), "learning_rate": 1e-12, "epochs": 3})
    result = run_sweep(file, unhurt, study="states")
    runs = children(result.run_id)
    found = {(run.data.params["learning_rate"], run.info.status, run.data.tags[STATE_TAG]) for run in runs}
    assert found == {
        ("1e-12", "FINISHED", "COMPLETE"),
        ("3.0", "KILLED", "PRUNED"),
        ("1e+30", "FAILED", "FAIL"),
    }
    for run in runs:
        epochs = {"COMPLETE": [1, 2, 3], "PRUNED": [1], "FAIL": []}[run.data.tags[STATE_TAG]]
        assert [step for step, _ in history(run.info.run_id)] == epochs
        if run.info.status == "FAILED":
            assert "loss became nan in epoch 1 with learning_rate=1e+30" in run.data.tags[FAILURE_TAG]
    rows = table(result.run_id)
    assert {row["state"] for row in rows} == {"COMPLETE", "PRUNED", "FAIL"}
    assert all(("nan" in row["failure"]) == (row["state"] == "FAIL") for row in rows)


@pytest.mark.parametrize(("pruner", "beside"), [("none", True), ("median", False)])
def test_an_epoch_is_told_beside_the_next_one_unless_trials_may_be_pruned(
    tracking: str, recipe: Recipe, pruner: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, read = TrialQueue.report, features.TrainingSet.read
    next_began, found_begun = threading.Event(), []

    def report_late(self: TrialQueue, running: Any, epoch: int, value: float) -> bool:
        if epoch == 1:
            found_begun.append(next_began.wait(60 if beside else 0.2))
        return report(self, running, epoch, value)

    def note_and_read(self: features.TrainingSet, epoch: int, **options: Any) -> Any:
        if epoch == 2:
            next_began.set()
        return read(self, epoch, **options)

    monkeypatch.setattr(TrialQueue, "report", report_late)
    monkeypatch.setattr(features.TrainingSet, "read", note_and_read)
    result = run_sweep(write_plan(pruner={"name": pruner}), recipe, trials=1, study=pruner)
    assert found_begun == [beside]
    [trial] = optuna.load_study(study_name=pruner, storage=default_storage(tracking)).trials
    assert list(trial.intermediate_values) == [1, 2]
    assert history(children(result.run_id)[0].info.run_id, "val_accuracy") == list(trial.intermediate_values.items())


def test_a_checkpoint_has_no_epoch_that_nobody_was_told_of(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, write = TrialQueue.report, training.Snapshot.write
    told: list[int] = []
    found_told: list[list[int]] = []

    def report_late(self: TrialQueue, running: Any, epoch: int, value: float) -> bool:
        time.sleep(0.3)
        told.append(epoch)
        return report(self, running, epoch, value)

    def note_and_write(self: training.Snapshot, path: Path) -> None:
        if path.parent.parent.name == "trials":
            found_told.append(list(told))
        write(self, path)

    monkeypatch.setattr(trial_training.CheckpointClock, "is_due", lambda _: True)
    monkeypatch.setattr(TrialQueue, "report", report_late)
    monkeypatch.setattr(training.Snapshot, "write", note_and_write)
    run_sweep(write_plan(), recipe, trials=1, study="due")
    assert found_told == [[1]]


def test_a_study_hears_of_a_trials_end_once_its_run_has_everything(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, complete = lifecycle.deliver, TrialQueue.complete
    found: list[tuple[list[int], set[str]]] = []

    def deliver_late(*entry: Any) -> None:
        time.sleep(0.1)
        deliver(*entry)

    def note_and_complete(self: TrialQueue, running: Any, value: float, attributes: dict[str, Any]) -> None:
        if "best_trial" not in attributes:
            run_id = job.tracking.trial_run_id(mlflow.active_run().info.run_id, running.number)
            artifacts = {entry.path for entry in MlflowClient().list_artifacts(run_id)}
            found.append(([step for step, _ in history(run_id, "best_val_accuracy")], artifacts))
        complete(self, running, value, attributes)

    monkeypatch.setattr(lifecycle, "deliver", deliver_late)
    monkeypatch.setattr(TrialQueue, "complete", note_and_complete)
    run_sweep(write_plan(), recipe, trials=1, study="late")
    assert found == [([2], {"head.safetensors", "tensorboard"})]


def test_a_trial_that_others_ended_or_whose_run_could_not_be_ended_has_not_failed(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, set_tag = TrialQueue.complete, MlflowClient.set_tag

    def complete_elsewhere(self: TrialQueue, running: Any, value: float, attributes: dict[str, Any]) -> None:
        complete(self, running, value, attributes)
        if running.number == 0:
            raise TakenOverError

    def fall_silent(self: MlflowClient, run_id: str, key: str, value: str) -> None:
        if key == STATE_TAG:
            raise MlflowException("nobody answers")
        set_tag(self, run_id, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(TrialQueue, "complete", complete_elsewhere)
        patch.setattr(MlflowClient, "set_tag", fall_silent)
        with pytest.raises(UserError, match=r"a trial was COMPLETE, and its run .* cannot be ended \(nobody answers\)"):
            run_sweep(write_plan(), recipe, trials=2, study="ends")
    result = run_sweep(write_plan(), recipe, trials=2, study="ends")
    for run in children(result.run_id):
        assert (run.info.status, run.data.tags[STATE_TAG]) == ("FINISHED", "COMPLETE")
        assert FAILURE_TAG not in run.data.tags
    noted = optuna.load_study(study_name="ends", storage=default_storage(tracking)).user_attrs
    assert [name for name in noted if name.startswith(OUTLIVED)] == [f"{OUTLIVED}0"]


def test_nothing_is_added_to_a_study_after_its_command(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrialSetups, "encode", be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(write_plan(), recipe, trials=200, study="many")
    study = optuna.load_study(study_name="many", storage=default_storage(tracking))
    added = len(study.trials)
    time.sleep(0.3)
    assert len(study.trials) == added < 200


def test_an_interrupt_waits_for_no_storage_that_is_away(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, waiting = features.TrainingSet.read, threading.Event()

    def answer_nothing() -> None:
        waiting.set()
        raise AwayError("connection refused")

    def interrupt_second_epoch(self: features.TrainingSet, epoch: int, **options: Any) -> Any:
        if epoch == 2:
            waiting.wait(60)
            raise KeyboardInterrupt
        return read(self, epoch, **options)

    monkeypatch.setattr(TrialQueue, "report", lambda self, *_: self._storage.repeat(answer_nothing))
    monkeypatch.setattr(features.TrainingSet, "read", interrupt_second_epoch)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(write_plan(), recipe, trials=1, study="away")
    assert time.monotonic() - began < PATIENCE / 2


def test_a_sweep_of_which_nothing_comes_says_so(tracking: str, recipe: Recipe) -> None:
    file = write_plan(space={"learning_rate": {"choices": [1e30]}})
    hopeless = Recipe(**{**vars(recipe), "learning_rate": 1e30})
    with pytest.raises(UserError, match="study=hopeless: none of its 2 trials was completed"):
        run_sweep(file, hopeless, trials=2, study="hopeless")


def test_a_setup_gives_its_memory_back_before_the_next_is_made(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[training.HeadPasses]] = []
    left: list[int] = []

    class Passes(training.HeadPasses):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            left.append(sum(one() is not None for one in made))
            made.append(weakref.ref(self))

    monkeypatch.setattr(training, "HeadPasses", Passes)
    file = write_plan(space={"seed": {"choices": [1, 2, 3]}})
    hopeless = Recipe(**{**vars(recipe), "learning_rate": 1e30, "seed": 1})
    with pytest.raises(UserError, match="none of its 4 trials was completed"):
        run_sweep(file, hopeless, trials=4, study="seeds")
    assert len(left) > 1
    assert set(left) == {0}


def test_the_same_call_goes_on_and_then_only_tells(
    tracking: str,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = run_sweep(write_plan(), recipe, trials=2, study="again")
    more = run_sweep(write_plan(), recipe, trials=3, study="again")
    assert more.run_id == first.run_id
    assert "The study goes on: 2 of 3 trials have ended" in capsys.readouterr().out
    assert [run.info.run_name for run in children(first.run_id)] == ["trial 0", "trial 1", "trial 2"]
    assert len(history(first.run_id, "test_accuracy")) == 2  # one for each best of so many
    assert MlflowClient().get_run(first.run_id).info.status == "FINISHED"

    monkeypatch.setattr(prepare.video, "inspect_videos", None)
    told = run_sweep(write_plan(), recipe, trials=3, study="again")
    assert "The study goes on: all its trials have ended" in capsys.readouterr().out
    assert (told.model_uri, told.metrics) == (more.model_uri, more.metrics)
    assert len(mlflow.search_logged_models(output_format="list")) == 2


def test_under_mlflow_run_a_study_that_goes_on_keeps_its_run(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = [MlflowClient().create_run("0").info.run_id for _ in range(2)]
    for count, run_id in enumerate(launched, start=1):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        result = run_sweep(write_plan(), recipe, trials=count, study="launched")
        assert result.run_id == launched[0]
    assert len(children(launched[0])) == 2
    second = MlflowClient().get_run(launched[1])
    assert (second.info.status, second.data.tags[RESUMED_TAG]) == ("FINISHED", launched[0])


@contextmanager
def interrupted(*, look: int, times: int) -> Iterator[None]:
    """Has this process sent some signals inside the block, when the progress is shown for the n-th time."""
    looks = 0
    show = TrialProgress.look

    def show_and_interrupt(self: TrialProgress) -> None:
        nonlocal looks
        show(self)
        looks += 1
        if looks == look:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrialProgress, "look", show_and_interrupt)
        patch.setattr(interrupts, "TOGETHER", 0)
        yield


@pytest.fixture(scope="module")
def long(recipe: Recipe) -> Recipe:
    return Recipe(**{**vars(recipe), "epochs": 4, "learning_rate": 1e-3})


@pytest.fixture(scope="module")
def whole(module_tracking: Path, long: Recipe) -> SweepResult:
    """A sweep that nobody interrupted."""
    return run_sweep(write_plan(), long, trials=3, study="whole")


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_sweep_goes_on_as_if_nothing_had_been(
    module_tracking: Path,
    whole: SweepResult,
    long: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    times: int,
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))  # other tests may keep trials at this moment
    name = f"stopped {times}"
    # The second epoch of the second trial: there is a look after each epoch, and one after each trial.
    with interrupted(look=7, times=times), pytest.raises(KeyboardInterrupt) as stopped:
        run_sweep(write_plan(), long, trials=3, study=name)
    (parent,) = mlflow.search_runs(
        output_format="list", filter_string=f"attributes.run_name = '{name}'", experiment_ids=["0"]
    )
    assert parent.info.status == "KILLED"
    ended = " 1 of 3 trials have ended;" if times == 1 else ""
    assert str(stopped.value) == f"interrupted:{ended} the same command goes on"
    if times == 1:
        assert parent.data.tags[FAILURE_TAG] == str(stopped.value)
    first, second = children(parent.info.run_id)
    assert (first.info.status, second.info.status, second.data.tags[STATE_TAG]) == ("FINISHED", "KILLED", "INTERRUPTED")
    assert [step for step, _ in history(second.info.run_id)] == [1, 2]

    resumed: list[Path | None] = []
    fit = training.fit

    def note(*args: Any, **kwargs: Any) -> training.TrainingState:
        resumed.append(kwargs["resume"])
        return fit(*args, **kwargs)

    monkeypatch.setattr(training, "fit", note)
    result = run_sweep(write_plan(), long, trials=3, study=name)
    assert [resume is not None for resume in resumed] == [times == 1, False]
    assert result.run_id == parent.info.run_id
    assert without_times(result.metrics) == without_times(whole.metrics)
    for run, other in zip(children(result.run_id), children(whole.run_id), strict=True):
        assert run.data.params == other.data.params
        assert history(run.info.run_id) == history(other.info.run_id)
        assert run.info.status == "FINISHED"
    assert not list((cache_folder() / "trials").glob("*"))
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{Path.cwd()}/optuna.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert list(study.trials[3].intermediate_values) == [1, 2, 3, 4]


def test_an_error_that_no_value_is_to_blame_for_stops_the_sweep_and_loses_nothing(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise UserError("feature store: cannot be written (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", full)
        with pytest.raises(UserError, match="No space left"):
            run_sweep(write_plan(), recipe, trials=2, study="full")
    result = run_sweep(write_plan(), recipe, trials=2, study="full")
    assert [run.info.status for run in children(result.run_id)] == ["FINISHED"] * 2


def test_a_trial_that_runs_out_of_memory_fails_and_the_sweep_goes_on_and_what_trains_is_saved(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit, tries = training.fit, []

    def fit_if_it_fits(*args: Any, **kwargs: Any) -> training.TrainingState:
        tries.append(kwargs["recipe"].learning_rate)
        if kwargs["recipe"].learning_rate != 1e-5:
            raise MemoryError("too much")
        return fit(*args, **kwargs)

    saved: list[int] = []
    really = training.Snapshot.write

    def note(snapshot: training.Snapshot, path: Path) -> None:
        if path.parent.parent.name == "trials":
            saved.append(len(snapshot.epochs))
        really(snapshot, path)

    monkeypatch.setattr(training, "fit", fit_if_it_fits)
    monkeypatch.setattr(checkpoints.CheckpointClock, "is_due", lambda _: True)
    monkeypatch.setattr(training.Snapshot, "write", note)
    result = run_sweep(write_plan(), Recipe(**{**vars(recipe), "epochs": 3}), trials=2, study="memory")
    assert saved == [1, 2]  # after each epoch of the baseline but the last
    assert len(tries) == 1 + 3
    assert capsys.readouterr().err.count("Trial 1 has run out of memory (MemoryError: too much)") == 3
    reason = "its process died 3 times, the last before its first epoch had ended (MemoryError: too much): expected"
    _, failed = children(result.run_id)
    assert failed.info.status == "FAILED"
    assert failed.data.tags[FAILURE_TAG].startswith(reason)
    assert [(row["state"], row["attempts"]) for row in table(result.run_id)] == [("COMPLETE", "1"), ("FAIL", "3")]
    assert table(result.run_id)[1]["failure"].startswith(reason)


def test_a_best_head_that_is_gone_and_another_sampler_are_named(
    tracking: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        download = job.tracking.download
        patch.setattr(job.tracking, "download", lambda run_id, _, folder: download(run_id, "gone.safetensors", folder))
        with pytest.raises(UserError, match=r"run \w+: gone\.safetensors cannot be fetched"):
            run_sweep(write_plan(), recipe, trials=1, study="gone")
    assert run_sweep(write_plan(), recipe, trials=1, study="gone").best_trial == 0  # once it is there again
    study = optuna.load_study(study_name="gone", storage=f"sqlite:///{Path.cwd()}/optuna.db")
    study.set_user_attr("definition", {**study.user_attrs["definition"], "sampler": "gp"})
    with pytest.raises(UserError, match=r"study=gone: there is one in .* with sampler: gp; here it is random"):
        run_sweep(write_plan(), recipe, trials=1, study="gone")
    study.set_user_attr("definition", {k: v for k, v in study.user_attrs["definition"].items() if k != "sampler"})
    with pytest.raises(UserError, match="study=gone: its run has sampler: random; here it is tpe"):  # of older versions
        run_sweep(write_plan(sampler={"name": "tpe"}), recipe, trials=1, study="gone")


def test_the_heads_of_trials_that_cannot_win_are_not_kept(tracking: str, recipe: Recipe) -> None:
    result: SweepResult = run_sweep(write_plan(metric="val_loss", direction="minimize"), recipe, trials=5, study="kept")
    losses = [run.data.metrics["best_val_loss"] for run in children(result.run_id)]
    records = [loss == min(losses[: number + 1]) for number, loss in enumerate(losses)]
    kept = ["head.safetensors" in artifacts(run.info.run_id) for run in children(result.run_id)]
    assert kept == records
    assert not all(kept)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere.yaml"], "nowhere.yaml: cannot be read (No such file or directory)"),
        (["bad.yaml"], "bad.yaml: space.rate: no field of the recipe: expected one of model,"),
        (["sweep.yaml", "--trials", "0"], "trials=0: expected a whole number of at least 1"),
        (["sweep.yaml", "--trials", "many"], "trials=many: expected a whole number of at least 1"),
        (["sweep.yaml", "--workers", "0"], "workers=0: expected a whole number of at least 1"),
        (
            ["sweep.yaml", "--learning-rate", "1"],
            "learning_rate=1.0: the first trial tries it, and the search space is",
        ),
        (["sweep.yaml", "--registered-model-name", "a/b"], "registered_model_name=a/b: "),
        (["sweep.yaml", "--device", "cuda:7"], "device=cuda:7: this machine has"),
        (["sweep.yaml", "--data", "nowhere"], "data=nowhere: no such folder or table"),
        (["sweep.yaml", "--storage", "sqlite:////no/folder/a.db"], "storage=sqlite:////no/folder/a.db: it does not"),
        (["sweep.yaml", "--study", "known", "--stride", "2"], "study=known: there is one in sqlite"),
        (["sweep.yaml", "--storage", "sqlite:///mlflow.db"], "storage=sqlite:///mlflow.db: it is MLflow's database"),
    ],
)
def test_a_mistake_is_one_line_before_any_video_is_opened(
    tracking: str,
    small_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    write_plan()
    Path("bad.yaml").write_text(Path("sweep.yaml").read_text().replace("learning_rate", "rate"))
    defaults = ["--data", str(small_data), "--model", "tiny"]
    if "known" in arguments:
        with pytest.raises(UserError, match="model=nowhere"):  # the study is there by then
            run_sweep(Path("sweep.yaml"), Recipe(data=str(small_data), model="nowhere/at-all"), study="known")
    monkeypatch.setattr(prepare.video, "inspect_videos", None)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", *defaults, *arguments])
    assert stopped.value.code == 2
    errors = [text for text in capsys.readouterr().err.splitlines() if " INFO mlflow" not in text]
    assert len(errors) == 1
    assert errors[0].startswith(f"Error: {line}")


def test_a_setup_is_made_anew_only_for_another_backbone_or_other_features(recipe: Recipe) -> None:
    setups = new_setups()
    setup = setups.setup(recipe)
    assert setups.setup(Recipe(**{**vars(recipe), "learning_rate": 1.0, "epochs": 9, "views": 2})) is setup
    for changes in ({"stride": 2}, {"frames_per_second": 8.0}):
        other = setups.setup(Recipe(**{**vars(recipe), **changes}))
        assert other is not setup
        assert torch.equal(other.first_weights["classifier.weight"], setup.first_weights["classifier.weight"])
        setup = other
