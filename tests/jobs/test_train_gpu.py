"""The main job on a CUDA GPU, with random weights: at the real size, or with few layers where they show as much."""

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from helpers import REPOSITORY, points, without_times
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, SweepResult, TrainingResult, UserError, evaluate, flavor, run_sweep, train, training

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


def test_the_main_job_runs_in_tf32(recipe: Recipe, clip: bytes) -> None:
    trained = train(replace(recipe, precision="tf32", epochs=1))
    answer = mlflow.pyfunc.load_model(trained.model_uri).predict(flavor.example_input(clip))
    assert answer["label"][0] in ("left_clockwise", "right_clockwise")


def test_evaluation_takes_several_clips_of_a_video(alone: dict[str, TrainingResult], recipe: Recipe) -> None:
    several = evaluate(alone["bf16"].model_uri, replace(recipe, precision="bf16"), num_clips=3).evaluation
    assert len(several.names) == 4
    assert several.outcomes.probabilities.sum(axis=1) == pytest.approx(1)


def test_a_run_without_a_store_is_the_run_that_filled_it(alone: dict[str, TrainingResult], recipe: Recipe) -> None:
    check_same(train(replace(recipe, precision="bf16", cache="off")), alone["bf16"])


def test_the_gpu_agrees_with_the_cpu(recipe: Recipe) -> None:
    tiny = replace(recipe, model="tiny", learning_rate=1e-3, scheduler="constant")
    # The tiny checkpoint's shapes are nobody else's, and compiling for them takes longer than all the rest.
    with torch.compiler.set_stance("force_eager"):
        on_gpu, on_cpu = (train(replace(tiny, device=device)) for device in ("cuda", "cpu"))
    for name in ("train_loss", "val_loss", "test_loss"):
        assert on_gpu.metrics[name] == pytest.approx(on_cpu.metrics[name], abs=1e-3)


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
        end_window = training.TrainingState.end_window

        def stop(state: training.TrainingState, *arguments: object, **named: float) -> None:
            end_window(state, *arguments, **named)  # type: ignore[arg-type]
            if state.steps == 4:  # of three in an epoch
                signal.raise_signal(signal.SIGTERM)

        patch.setattr(training.TrainingState, "end_window", stop)
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


def test_where_another_holds_the_memory_fewer_clips_go_at_once_or_the_run_says_so(
    alone: dict[str, TrainingResult], recipe: Recipe, vit_large: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(recipe, precision="bf16")
    large = replace(recipe, model=str(vit_large), cache="off", epochs=1, gradient_accumulation_steps=16)
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
