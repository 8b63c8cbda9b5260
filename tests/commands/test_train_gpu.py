"""The main job and the sweep on a CUDA GPU with random weights, at the real size, or with few layers where these do."""

import gc
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from beside import Job, pretraining
from helpers import REPOSITORY, points, without_times
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, SweepResult, TrainingResult, UserError, evaluate, flavor, run_sweep, train, training
from vjepa_mlflow.data import read_training_data
from vjepa_mlflow.tracking import STATE_TAG

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.usefixtures("module_tracking", "own_cache"),
]
SWEEP = REPOSITORY / "sweeps" / "baseline.yaml"


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In which no other tests keep anything."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VJEPA_MLFLOW_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def recipe(small_data: Path, vit_short: Path) -> Recipe:
    return Recipe(data=str(small_data), model=str(vit_short), epochs=2, learning_rate=1e-4, scheduler="cosine")


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline's search, for learning rates alone: each size of window would be compiled in both processes."""
    search = yaml.safe_load(SWEEP.read_text())
    del search["space"]["gradient_accumulation_steps"]
    file = tmp_path_factory.mktemp("sweep") / "rates.yaml"
    file.write_text(yaml.safe_dump(search))
    return file


@pytest.fixture(scope="module", autouse=True)
def beside(
    request: pytest.FixtureRequest, recipe: Recipe, rates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Job | Future[list[str]]]]:
    """What is at work beside the first tests: a sweep in two processes, the main job in TF32, and the pretraining of a
    test of tools/, if that test is to run."""
    options = ["--data", recipe.data, "--model", recipe.model]
    search = ["sweep", str(rates), "--trials", "4", "--workers", "2", "--epochs", "2", "--precision", "bf16"]
    jobs = {
        "sweep": Job(tmp_path_factory.mktemp("sweep"), *search, *options),
        "tf32": Job(tmp_path_factory.mktemp("tf32"), "train", "--precision", "tf32", "--epochs", "1", *options),
    }
    others = {}
    if any(item.path.name == "test_pretrain_tiny.py" for item in request.session.items):
        others["pretraining"] = pretraining()
    yield {**jobs, **others}
    for job in jobs.values():
        job.end()


@pytest.fixture(scope="module")
def sweep_of_two(beside: dict[str, Job]) -> Job:
    return beside["sweep"]


@pytest.fixture(scope="module")
def tf32_job(beside: dict[str, Job]) -> Job:
    return beside["tf32"]


@pytest.fixture
def nothing_beside(beside: dict[str, Job | Future[list[str]]]) -> None:
    """All of them have what they need of the GPU's memory, and have ended."""
    for each in beside.values():
        each.wait() if isinstance(each, Job) else each.result()


@pytest.fixture(scope="module")
def alone(module_tracking: Path, own_cache: Path, recipe: Recipe) -> dict[str, TrainingResult]:
    """By precision, a run that nobody stopped, and that filled the store."""
    return {precision: train(replace(recipe, precision=precision)) for precision in ("fp32", "bf16")}


def head(model_uri: str) -> dict[str, torch.Tensor]:
    weights = flavor.load_model(model_uri).model.state_dict()
    return {name: weight for name, weight in weights.items() if not name.startswith("vjepa2.")}


def check_same(found: TrainingResult | SweepResult, expected: TrainingResult) -> None:
    """The same metrics, and every bit of the head."""
    assert without_times(found.metrics) == without_times(expected.metrics)
    heads = head(found.model_uri), head(expected.model_uri)
    assert all(torch.equal(heads[0][name], weight) for name, weight in heads[1].items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_main_job_runs_at_the_real_size_and_evaluation_finds_what_it_found(
    recipe: Recipe, vit_large: Path, precision: str, clip: bytes
) -> None:
    recipe = replace(recipe, model=str(vit_large), precision=precision, epochs=1)
    trained = train(recipe)
    params = MlflowClient().get_run(trained.run_id).data.params
    assert params["device_name"] == torch.cuda.get_device_name()
    # 375,485,998 with 174 classes; here there are two.
    assert int(params["total_parameters"]) == 375_485_998 - 172 * 1025
    assert int(params["trainable_parameters"]) == 49_336_320 + 2 * 1025
    answer = mlflow.pyfunc.load_model(trained.model_uri).predict(flavor.example_input(clip))
    assert answer["label"][0] in ("left_clockwise", "right_clockwise")
    found = evaluate(trained.model_uri, recipe).evaluation.metrics_of("test")
    assert found == pytest.approx({name: trained.metrics[name] for name in found}, abs=1e-6)


def test_the_main_job_runs_in_tf32(tf32_job: Job, clip: bytes) -> None:
    model_uri = tf32_job.wait()
    with tf32_job.store():
        answer = mlflow.pyfunc.load_model(model_uri).predict(flavor.example_input(clip))
    assert answer["label"][0] in ("left_clockwise", "right_clockwise")


def test_evaluation_takes_several_clips_of_a_video(alone: dict[str, TrainingResult], recipe: Recipe) -> None:
    several = evaluate(alone["bf16"].model_uri, replace(recipe, precision="bf16"), num_clips=3).evaluation
    assert len(several.names) == 4
    assert several.predictions.probabilities.sum(axis=1) == pytest.approx(1)


def test_a_run_without_a_store_is_the_run_that_filled_it(alone: dict[str, TrainingResult], recipe: Recipe) -> None:
    check_same(train(replace(recipe, precision="bf16", cache="off")), alone["bf16"])


@pytest.mark.parametrize(("precision", "resumed_on"), [("bf16", "cuda"), ("fp32", "cuda, elsewhere")])
def test_a_run_that_is_stopped_between_two_steps_goes_on_with_the_same_bits(
    alone: dict[str, TrainingResult],
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    resumed_on: str,
) -> None:
    recipe = replace(recipe, precision=precision)
    with pytest.MonkeyPatch.context() as patch:
        end_step = training.TrainingState.end_step

        def stop(state: training.TrainingState, *arguments: object, **named: float) -> None:
            end_step(state, *arguments, **named)  # type: ignore[arg-type]
            if state.steps == 4:  # of three in an epoch
                signal.raise_signal(signal.SIGTERM)

        patch.setattr(training.TrainingState, "end_step", stop)
        with pytest.raises(KeyboardInterrupt, match="interrupted after step 4, with 1 of 2 epochs done"):
            train(recipe)
    run_id = mlflow.search_runs(output_format="list")[0].info.run_id
    if resumed_on != "cuda":
        monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "elsewhere"))
    resumed = train(recipe, resume=run_id)
    assert resumed.run_id == run_id
    assert points(run_id) == points(alone[precision].run_id)
    check_same(resumed, alone[precision])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trial_that_is_interrupted_and_goes_on_is_the_run_of_its_recipe(
    alone: dict[str, TrainingResult], recipe: Recipe, precision: str
) -> None:
    recipe = replace(recipe, precision=precision)
    with pytest.MonkeyPatch.context() as patch:
        end_epoch = training.TrainingState.end_epoch

        def end_and_interrupt(self: training.TrainingState, metrics: dict[str, float], metric: str) -> None:
            end_epoch(self, metrics, metric)
            signal.raise_signal(signal.SIGINT)

        patch.setattr(training.TrainingState, "end_epoch", end_and_interrupt)
        with pytest.raises(KeyboardInterrupt, match="0 of 1 trials have ended"):
            run_sweep(SWEEP, recipe, trials=1, study=precision)
    resumed = run_sweep(SWEEP, recipe, trials=1, study=precision)
    check_same(resumed, alone[precision])
    assert MlflowClient().get_run(resumed.run_id).info.status == "FINISHED"


def test_a_sweep_runs_in_two_processes(sweep_of_two: Job, recipe: Recipe, rates: Path) -> None:
    model_uri = sweep_of_two.wait()
    with sweep_of_two.store():
        served = mlflow.pyfunc.load_model(model_uri)
        found = Recipe(data=recipe.data, model=recipe.model, epochs=2, precision="bf16")
        result = run_sweep(rates, found, trials=4)  # finds nothing left to do
        runs = mlflow.search_runs(output_format="list", filter_string=f"tags.`mlflow.parentRunId` = '{result.run_id}'")
    assert [(run.info.status, run.data.tags[STATE_TAG]) for run in runs] == [("FINISHED", "COMPLETE")] * 4
    values = [run.data.metrics["best_val_accuracy"] for run in runs]
    assert result.metrics["val_accuracy"] == pytest.approx(max(values))
    validated = [sample for sample in read_training_data(recipe.data).samples if sample.split == "val"]
    answers = [served.predict(flavor.example_input(sample.path.read_bytes()))["label"][0] for sample in validated]
    hits = [answer == sample.label for answer, sample in zip(answers, validated, strict=True)]
    assert sum(hits) / len(hits) == pytest.approx(result.metrics["val_accuracy"])


@contextmanager
def memory_held(left: float) -> Iterator[None]:
    """Holds the GPU's memory but for so many GiB, as another process would."""
    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(int(free - left * 2**30), dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del held
        torch.cuda.empty_cache()


@pytest.mark.usefixtures("nothing_beside")
def test_where_another_holds_the_memory_fewer_clips_go_at_once_or_the_run_says_so(
    alone: dict[str, TrainingResult], recipe: Recipe, vit_large: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(recipe, precision="bf16")
    large = replace(recipe, model=str(vit_large), cache="off", epochs=1, gradient_accumulation_steps=8)
    expected = train(large)
    with memory_held(5.5):
        found = train(large)
    assert "clips go through the head at once from here on" in capsys.readouterr().err
    assert found.metrics["train_loss"] == pytest.approx(expected.metrics["train_loss"], abs=1e-2)

    with memory_held(0.1), pytest.raises((UserError, torch.OutOfMemoryError)):
        train(recipe)
    (run, *_) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FAILED"
    check_same(train(recipe, resume=run.info.run_id), alone["bf16"])


@pytest.mark.usefixtures("nothing_beside")
def test_the_gpu_agrees_with_the_cpu(recipe: Recipe) -> None:
    tiny = replace(recipe, model="tiny", learning_rate=1e-3, scheduler="constant")
    # The tiny checkpoint's shapes are nobody else's, and compiling for them takes longer than all the rest.
    with torch.compiler.set_stance("force_eager"):
        on_gpu, on_cpu = (train(replace(tiny, device=device)) for device in ("cuda", "cpu"))
    for name in ("train_loss", "val_loss", "test_loss"):
        assert on_gpu.metrics[name] == pytest.approx(on_cpu.metrics[name], abs=1e-3)
