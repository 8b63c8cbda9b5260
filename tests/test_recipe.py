from contextlib import nullcontext
from dataclasses import asdict

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_name

from vjepa_mlflow import Recipe, UserError


def test_the_defaults_are_the_model_cards() -> None:
    recipe = asdict(Recipe())
    card = {
        "learning_rate": 1e-5,
        "epochs": 5,
        "gradient_accumulation_steps": 4,
        "batch_size": 1,
        "precision": "fp32",
        "scheduler": "constant",
        "class_weights": "none",
        "horizontal_flip": False,
    }
    assert {name: recipe[name] for name in card} == card


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 0, "a whole number of at least 1"),
        ("gradient_accumulation_steps", 0, "a whole number of at least 1"),
        ("batch_size", -1, "a whole number of at least 1"),
        ("views", -1, "a whole number of at least 0"),
        ("learning_rate", 0.0, "a number greater than 0"),
        ("learning_rate", float("nan"), "a number greater than 0"),
        ("learning_rate", float("inf"), "a number greater than 0"),
        ("precision", "fp8", "one of fp32, tf32, bf16"),
        ("bad_videos", "ignore", "one of stop, skip"),
        ("scheduler", "warm", "one of constant, linear, cosine"),
        ("device", "gpu", "auto, cpu, cuda or cuda:N"),
        ("device", "cuda:x", "auto, cpu, cuda or cuda:N"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: object, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        Recipe(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name}={value}: expected {expected}"


@pytest.mark.parametrize(
    "name", ["a", "a b", ".a", "a..b", "~", "é", "a\\b", " ", ".", "..", "...", "..a", "/", "a/b", "a:1"]
)
def test_names_that_mlflow_would_not_register_are_refused_at_once(name: str) -> None:
    refused = False
    try:
        _validate_model_name(name)
    except MlflowException:
        refused = True
    with pytest.raises(UserError, match=r"^registered_model_name=") if refused else nullcontext():
        Recipe(registered_model_name=name)
