"""The main job at the real size on a CUDA GPU, with random weights."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from helpers import points, without_times
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, UserError, flavor, train, training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.fixture
def recipe(small_data: Path, vit_large: Path) -> Recipe:
    return Recipe(data=str(small_data), model=str(vit_large), epochs=2)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_main_job_runs_at_the_real_size(tracking: str, recipe: Recipe, precision: str, clip: bytes) -> None:
    result = train(replace(recipe, precision=precision))
    params = MlflowClient().get_run(result.run_id).data.params
    assert params["device_name"] == torch.cuda.get_device_name()
    # 375,485,998 with 174 classes; here there are two.
    assert int(params["total_parameters"]) == 375_485_998 - 172 * 1025
    assert int(params["trainable_parameters"]) == 49_336_320 + 2 * 1025
    answer = mlflow.pyfunc.load_model(result.model_uri).predict(flavor.example_input(clip))
    assert answer["label"][0] in ("left_clockwise", "right_clockwise")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_numbers_on_a_gpu(tracking: str, recipe: Recipe, precision: str) -> None:
    first, second = (train(replace(recipe, precision=precision, learning_rate=1e-4)) for _ in range(2))
    assert without_times(first.metrics) == without_times(second.metrics)
    heads = [flavor.load_model(result.model_uri).model.classifier.weight for result in (first, second)]
    assert torch.equal(*heads)


def test_the_gpu_agrees_with_the_cpu(tracking: str, recipe: Recipe) -> None:
    tiny = replace(recipe, model="tiny", learning_rate=1e-3)
    on_gpu, on_cpu = (train(replace(tiny, device=device)) for device in ("cuda", "cpu"))
    for name in ("train_loss", "val_loss", "test_loss"):
        assert on_gpu.metrics[name] == pytest.approx(on_cpu.metrics[name], abs=1e-3)


def test_a_run_from_the_store_is_the_run_that_filled_it(
    tracking: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    bf16 = replace(recipe, precision="bf16", learning_rate=1e-4)
    cold, warm, off = (train(replace(bf16, cache=cache)) for cache in ("disk", "disk", "off"))
    for other in (warm, off):
        assert without_times(cold.metrics) == without_times(other.metrics)


@pytest.mark.parametrize("resumed_on", ["cuda", "cuda, elsewhere"])
def test_a_run_that_is_stopped_between_two_steps_goes_on_with_the_same_bits(
    tracking: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed_on: str
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    recipe = replace(recipe, precision="bf16", learning_rate=1e-4, scheduler="cosine")
    alone = train(recipe)
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
        shutil.rmtree(tmp_path / "cache")
    resumed = train(recipe, resume=run_id)
    assert points(run_id) == points(alone.run_id)
    heads = [flavor.load_model(result.model_uri).model.classifier.weight for result in (alone, resumed)]
    assert torch.equal(*heads)


@contextmanager
def memory_held(left: float) -> Iterator[None]:
    """Holds the GPU's memory but for so many GiB, as another process would."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(int(free - left * 2**30), dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del held
        torch.cuda.empty_cache()


def test_where_another_holds_the_memory_fewer_clips_go_at_once_or_the_run_says_so(
    tracking: str, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(recipe, precision="bf16", cache="off", epochs=1, gradient_accumulation_steps=16)
    expected = train(recipe)
    with memory_held(5.5):
        found = train(recipe)
    assert "clips go through the head at once from here on" in capsys.readouterr().err
    assert found.metrics["train_loss"] == pytest.approx(expected.metrics["train_loss"], abs=1e-2)

    with memory_held(1.0), pytest.raises((UserError, torch.OutOfMemoryError)):
        train(recipe)
    (run, *_) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FAILED"
    assert train(recipe, resume=run.info.run_id).metrics["train_loss"] == expected.metrics["train_loss"]
