from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
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
    ("name", "value", "message"),
    [
        ("epochs", "3", "epochs='3': expected a whole number"),
        ("epochs", 2.0, "epochs=2.0: expected a whole number"),
        ("epochs", True, "epochs=True: expected a whole number"),
        ("epochs", None, "epochs=None: expected a whole number"),
        ("seed", 2**32, "seed=4294967296: expected a whole number of at most 4294967295"),
        ("learning_rate", 10**400, f"learning_rate={10**400}: expected a number of at most 4294967295"),
        ("learning_rate", "x", "learning_rate='x': expected a number"),
        ("learning_rate", False, "learning_rate=False: expected a number"),
        ("horizontal_flip", "no", "horizontal_flip='no': expected true or false"),
        ("horizontal_flip", 0, "horizontal_flip=0: expected true or false"),
        ("data", 3, "data=3: expected a text"),
        ("model", None, "model=None: expected a text"),
        ("data", "", "data=: expected a folder or table of labelled videos, or demo"),
    ],
)
def test_values_of_another_type_are_refused_before_they_mean_something_else(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        Recipe(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_numpys_numbers_and_paths_are_taken() -> None:
    recipe = Recipe(data=Path("a") / "b", epochs=np.int64(3), learning_rate=np.float32(0.5))  # type: ignore[arg-type]
    assert recipe.data == "a/b"
    assert (type(recipe.epochs), type(recipe.learning_rate)) == (int, float)
    assert recipe == Recipe(data="a/b", epochs=3, learning_rate=0.5)
    assert recipe.training_fields() == Recipe(data="a/b", epochs=3, learning_rate=0.5).training_fields()


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
