"""Evaluation at the real size on a CUDA GPU, with random weights."""

from pathlib import Path

import pytest
import torch

from vjepa_mlflow import Recipe, evaluate, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_finds_what_training_found(tracking: str, small_data: Path, vit_large: Path, precision: str) -> None:
    recipe = Recipe(data=str(small_data), model=str(vit_large), epochs=1, precision=precision)
    trained = train(recipe)
    found = evaluate(trained.model_uri, recipe).evaluation.metrics_of("test")
    assert found == pytest.approx({name: trained.metrics[name] for name in found}, abs=1e-6)
    several = evaluate(trained.model_uri, recipe, num_clips=3).evaluation
    assert len(several.names) == 4
    assert several.outcomes.probabilities.sum(axis=1) == pytest.approx(1)
