"""Runs that are stopped and go on, on the machine where they were or on another."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import mlflow
import pytest
import torch
from helpers import environment, points
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from vjepa_mlflow import Recipe, TrainingResult, UserError, flavor, train, training
from vjepa_mlflow.commands import train as job
from vjepa_mlflow.data import SPLITS, Sample, VideoDataset, read_training_data
from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.model import TINY_FOLDER, Head
from vjepa_mlflow.runtime import interrupts
from vjepa_mlflow.runtime.cpus import VALUES_OF_A_THREAD, thread_count
from vjepa_mlflow.stages import fit, prepare
from vjepa_mlflow.stages.checkpoints import Checkpoints
from vjepa_mlflow.stages.training_run import define
from vjepa_mlflow.tracking import FAILURE_TAG, RESUMED_TAG, Job, RunLog, resumed_log, signs_of_life, unfinished
from vjepa_mlflow.training.gradient import AccumulatedGradient

pytestmark = pytest.mark.usefixtures("module_tracking", "undrawn")


@pytest.fixture(scope="module")
def recipe(small_data: Path) -> Recipe:
    return Recipe(data=str(small_data), model="tiny", epochs=3, learning_rate=1e-3, scheduler="cosine")


@pytest.fixture(scope="module")
def alone(module_tracking: Path, recipe: Recipe) -> TrainingResult:
    """Of a run that nobody stopped."""
    return train(recipe)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In which no other tests keep anything."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VJEPA_MLFLOW_CACHE", str(folder))
        yield folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What takes the rest of the test to another machine, with more cores than this process computes with."""

    def move() -> None:
        monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "elsewhere"))
        monkeypatch.setenv("OMP_NUM_THREADS", str(thread_count(VALUES_OF_A_THREAD) + 1))

    return move


def stop(recipe: Recipe, number: signal.Signals, *, after: int = 1) -> tuple[str, str]:
    """Has a run stop itself after so many epochs; returns its id, and what it said at last."""
    with pytest.MonkeyPatch.context() as patch:
        told = fit._tell_epoch

        def tell(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
            told(epoch, epochs, metrics)
            if epoch == after:
                signal.raise_signal(number)

        patch.setattr(fit, "_tell_epoch", tell)
        with pytest.raises(KeyboardInterrupt) as stopped:
            train(recipe)
    run = mlflow.search_runs(output_format="list")[0]
    assert run.info.status == "KILLED"
    return run.info.run_id, str(stopped.value)


def head(result: TrainingResult) -> dict[str, torch.Tensor]:
    weights = flavor.load_model(result.model_uri).model.state_dict()
    return {name: weight for name, weight in weights.items() if not name.startswith("vjepa2.")}


def check_same(resumed: TrainingResult, alone: TrainingResult) -> None:
    run = MlflowClient().get_run(resumed.run_id)
    assert run.info.status == "FINISHED"
    assert FAILURE_TAG not in run.data.tags
    assert points(resumed.run_id) == points(alone.run_id)
    heads = head(resumed), head(alone)
    assert all(torch.equal(heads[0][name], weight) for name, weight in heads[1].items())


def command_of(recipe: Recipe) -> list[str]:
    """The command that trains by a recipe of these tests."""
    names = ("data", "model", "epochs", "learning_rate", "scheduler")
    values = [word for name in names for word in (f"--{name.replace('_', '-')}", str(getattr(recipe, name)))]
    return [sys.executable, "-m", "vjepa_mlflow", "train", *values]


@pytest.mark.parametrize(("number", "moved"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_run_that_was_asked_to_stop_goes_on_as_if_it_had_not_been(
    recipe: Recipe,
    alone: TrainingResult,
    elsewhere: Callable[[], None],
    number: signal.Signals,
    moved: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id, said = stop(recipe, number)
    assert said == (
        f"interrupted after step 3, with 1 of 3 epochs done: the same command with --resume {run_id} (mlflow run: "
        f"-P resume={run_id}) goes on"
    )
    if moved:
        elsewhere()
    resumed = train(recipe, resume=run_id)
    assert "Its training goes on after step 3, with 1 of 3 epochs done" in capsys.readouterr().out
    assert resumed.run_id == run_id
    check_same(resumed, alone)
    assert not (cache_folder() / "checkpoints" / run_id).exists()
    assert "checkpoint" not in {artifact.path for artifact in MlflowClient().list_artifacts(run_id)}


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(recipe: Recipe, alone: TrainingResult) -> None:
    with Popen([*command_of(recipe), "--save-steps", "1"], env=environment(), stdout=PIPE, text=True) as killed:
        assert killed.stdout is not None
        while not killed.stdout.readline().startswith("Epoch 1/3"):
            assert killed.poll() is None
        killed.kill()
    run = mlflow.search_runs(output_format="list")[0]
    assert run.info.status == "RUNNING"
    resumed = train(recipe, resume="auto")
    assert resumed.run_id == run.info.run_id
    check_same(resumed, alone)


def test_a_run_that_failed_goes_on_where_it_did(
    recipe: Recipe, alone: TrainingResult, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown() -> list[str]:
        return re.findall(r"Epoch \d", capsys.readouterr().out)

    calls: list[int] = []
    compute = AccumulatedGradient.compute

    def fail_in_step_5(gradient: AccumulatedGradient, window: Any) -> Any:
        calls.append(len(window))
        if len(calls) == 5:
            raise RuntimeError("failed")
        return compute(gradient, window)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AccumulatedGradient, "compute", fail_in_step_5)
        with pytest.raises(RuntimeError, match="failed"):
            train(recipe)
    run = mlflow.search_runs(output_format="list")[0]
    assert (run.info.status, shown()) == ("FAILED", ["Epoch 1"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "test", None)
        with pytest.raises(TypeError):
            train(recipe, resume=run.info.run_id)
    assert (len(calls), shown()) == (5, ["Epoch 2", "Epoch 3"])
    resumed = train(recipe, resume=run.info.run_id)
    assert shown() == []
    check_same(resumed, alone)


def test_a_run_whose_terminal_is_closed_is_killed_and_goes_on(recipe: Recipe) -> None:
    long = replace(recipe, epochs=20)
    terminal, its_side = os.openpty()
    command = ["setsid", "--ctty", *command_of(long)]
    with Popen(command, env=environment(), stdin=its_side, stdout=its_side, stderr=its_side) as training:
        os.close(its_side)
        shown = b""
        while b"Epoch 1/20" not in shown:
            shown += os.read(terminal, 1024)
        os.close(terminal)
    assert training.returncode == 130
    run = mlflow.search_runs(output_format="list")[0]
    assert run.info.status == "KILLED"
    assert f"the same command with --resume {run.info.run_id}" in run.data.tags[FAILURE_TAG]
    assert train(long, resume=run.info.run_id).run_id == run.info.run_id
    assert MlflowClient().get_run(run.info.run_id).info.status == "FINISHED"


def test_a_second_signal_stops_at_once_and_later_ones_do_not_stop_what_ends_the_run(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    end_run = mlflow.end_run

    def end(status: str) -> None:
        press()
        end_run(status)

    monkeypatch.setattr(interrupts, "TOGETHER", 0)
    monkeypatch.setattr(fit, "_tell_epoch", press)
    monkeypatch.setattr(RunLog, "events", press)
    monkeypatch.setattr(mlflow, "end_run", end)
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted: the same command with --resume"):
        train(recipe)
    assert mlflow.search_runs(output_format="list")[0].info.status == "KILLED"


@pytest.mark.usefixtures("tracking")
def test_an_interrupt_waits_until_the_run_has_begun(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    create_run = MlflowClient.create_run

    def press_and_create(*arguments: Any, **named: Any) -> mlflow.entities.Run:
        signal.raise_signal(signal.SIGINT)
        return create_run(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", press_and_create)
    with pytest.raises(KeyboardInterrupt):
        train(recipe)
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "KILLED"


def test_auto_takes_the_last_such_run_or_begins_one(recipe: Recipe) -> None:
    run_id, _ = stop(recipe, signal.SIGTERM)
    other, _ = stop(replace(recipe, seed=1), signal.SIGTERM)
    assert train(recipe, resume="auto").run_id == run_id
    assert train(recipe, resume="auto").run_id not in (run_id, other)


def test_auto_takes_a_run_that_was_left_running_if_nobody_works_at_it(
    recipe: Recipe, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, _ = stop(recipe, signal.SIGTERM)
    MlflowClient().update_run(run_id, status="RUNNING")
    monkeypatch.setattr(signs_of_life, "OBSERVED", 2)
    definition = define(recipe, read_training_data(recipe.data).samples)
    assert unfinished.find_unfinished(definition) == run_id
    monkeypatch.setattr(signs_of_life, "SIGN_INTERVAL", 0.2)
    again = Job.of("train", definition, {})
    with resumed_log(run_id, again) as log, unfinished.resumable(log, definition):
        assert unfinished.find_unfinished(definition) is None  # its outbox is locked
        with pytest.raises(UserError, match=f"resume={run_id}: another process works at it"):
            unfinished.check_unfinished(run_id, definition)
        elsewhere()
        assert unfinished.find_unfinished(definition) is None  # it gives signs of life


def test_a_launched_run_names_the_one_that_goes_on(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, _ = stop(recipe, signal.SIGTERM)
    launched = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", launched)
    assert train(recipe, resume="auto").run_id == run_id
    outer = MlflowClient().get_run(launched)
    assert (outer.info.status, outer.data.tags[RESUMED_TAG]) == ("FINISHED", run_id)


def test_other_weights_are_refused_before_any_video_is_opened(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(TINY_FOLDER, tmp_path / "model"))
    recipe = replace(recipe, model=str(folder))
    run_id, _ = stop(recipe, signal.SIGTERM)
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(prepare.video, "inspect_videos", None)
    with pytest.raises(UserError, match=rf"^model={folder}: its weights \(sha256:.*\) are not those that run {run_id}"):
        train(recipe, resume=run_id)
    Path(MlflowClient().get_run(run_id).info.artifact_uri, "labels.json").unlink()
    with pytest.raises(UserError, match=rf"^resume={run_id}: it has a checkpoint, and no split.csv and labels.json"):
        train(recipe, resume=run_id)


def test_it_goes_on_with_its_own_splits_classes_and_order(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run does that an older version began, which drew all of them otherwise."""
    for video in small_data.rglob("*.mp4"):
        target = tmp_path / "data" / video.parent.name / video.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, target)
    recipe = Recipe(data=str(tmp_path / "data"), model="tiny", epochs=3, learning_rate=1e-3)

    def drawn_before(data: str, samples: list[Sample], **_: object) -> VideoDataset:
        splits = {split: [replace(one, split=split) for one in samples[start::3]] for start, split in enumerate(SPLITS)}
        return VideoDataset(["right_clockwise", "left_clockwise"], splits, ["val", "test"], order="numpy")

    with monkeypatch.context() as before:
        before.setattr(prepare.data, "make_dataset", drawn_before)
        expected = train(recipe)
        run_id, _ = stop(recipe, signal.SIGTERM)
    resumed = train(recipe, resume="auto")
    assert resumed.run_id == run_id
    check_same(resumed, expected)
    artifacts = [MlflowClient().download_artifacts(one, "split.csv") for one in (run_id, expected.run_id)]
    assert Path(artifacts[0]).read_text() == Path(artifacts[1]).read_text()
    labels = flavor.load_model(resumed.model_uri).model.config.id2label
    assert list(labels.values()) == ["right_clockwise", "left_clockwise"]


def test_another_recipe_other_data_or_a_finished_run_is_refused(
    recipe: Recipe, small_data: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(small_data, tmp_path / "data"))
    recipe = replace(recipe, data=str(data))
    run_id, _ = stop(recipe, signal.SIGTERM)
    with pytest.raises(UserError, match=f"^resume={run_id}: the run has seed=0; here it is 1: expected the same"):
        train(replace(recipe, seed=1), resume=run_id)
    videos = sorted((data / "train" / "left_clockwise").glob("*.mp4"))
    content = videos[0].read_bytes()
    videos[0].write_bytes((small_data / "train" / "left_clockwise" / "1.mp4").read_bytes() + b"\0")
    with pytest.raises(UserError, match=rf"^data={data}: train/left_.*0.mp4 became another .* since run {run_id}"):
        train(recipe, resume=run_id)
    videos[0].write_bytes(content)
    videos[0].rename(videos[0].with_name("other.mp4"))
    with pytest.raises(UserError, match=rf"^resume={run_id}: the run has data=18 videos \("):
        train(recipe, resume=run_id)
    videos[0].with_name("other.mp4").rename(videos[0])
    train(recipe, resume=run_id)
    with pytest.raises(UserError, match=f"^resume={run_id}: it has finished"):
        train(recipe, resume=run_id)
    with pytest.raises(UserError, match=f"^resume={'0' * 32}: "):
        train(recipe, resume="0" * 32)


def test_a_checkpoint_that_was_tampered_with_is_named_and_not_used(
    own_cache: Path, recipe: Recipe, alone: TrainingResult, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = stop(recipe, signal.SIGTERM)
    (kept,) = (own_cache / "checkpoints" / run_id).glob("*.safetensors")
    (logged,) = Path("mlruns").rglob(f"{run_id}/artifacts/checkpoint/*.safetensors")
    for path in (kept, logged):
        spoil(path)
    with pytest.raises(UserError, match=f"{kept}: was changed after it was written"):
        train(recipe, resume=run_id)
    spoil(logged)  # as it was
    capsys.readouterr()
    resumed = train(recipe, resume=run_id)
    said = capsys.readouterr()
    assert f"{kept}: was changed after it was written (its SHA-256 is another one): it is not used; another" in said.err
    assert "Epoch 1/3" not in said.out
    check_same(resumed, alone)
    assert not logged.exists()


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_every_so_many_steps_there_is_a_checkpoint(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="save_steps=-1: expected a whole number of at least 0"):
        train(recipe, save_steps=-1)
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        save = Checkpoints.save

        def note(checkpoints: Checkpoints, state: training.TrainingState) -> None:
            seen.append(state.steps)
            save(checkpoints, state)

        patch.setattr(Checkpoints, "save", note)
        train(recipe, save_steps=2)
    assert seen == [2, 4, 6, 8]  # and none else in a training of a few seconds


def test_where_the_loss_is_no_number_any_more_the_best_head_is_kept(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        told = fit._tell_epoch

        def spoil_head(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
            told(epoch, epochs, metrics)
            if epoch == 2:
                heads[0].classifier.bias.data.fill_(float("nan"))

        heads: list[Head] = []
        opened = job.prepare

        def keep_head(*arguments: Any, **options: Any) -> prepare.Preparation:
            prepared = opened(*arguments, **options)
            heads.append(prepared.head)
            return prepared

        patch.setattr(job, "prepare", keep_head)
        patch.setattr(fit, "_tell_epoch", spoil_head)
        with pytest.raises(UserError, match=r"loss became nan in epoch 3 .*the artifact head\.safetensors"):
            train(recipe)
    run = mlflow.search_runs(output_format="list")[0]
    assert run.info.status == "FAILED"
    kept = MlflowClient().download_artifacts(run.info.run_id, "head.safetensors", str(tmp_path))
    best, epochs = training.load_best(Path(kept))
    assert len(epochs) == 2
    assert all(weight.isfinite().all() for weight in best.weights.values())


def test_a_killed_process_leaves_no_trace_in_the_environment(recipe: Recipe) -> None:
    before = signal.getsignal(signal.SIGTERM), dict(os.environ)
    stop(recipe, signal.SIGTERM)
    assert (signal.getsignal(signal.SIGTERM), dict(os.environ)) == before
