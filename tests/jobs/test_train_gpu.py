"""The main job at the real size on a CUDA GPU, with random weights."""

from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from helpers import without_times
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, flavor, train

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
