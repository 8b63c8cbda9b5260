import re
from typing import Any

import optuna
import pytest

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.recipe import ENVIRONMENT_FIELDS
from vjepa_mlflow.search.space import Dimension, read_space


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"learning_rate": {"low": 1e-6, "high": 1e-2, "log": True}}, "1e-06 to 0.01, log"),
        ({"learning_rate": {"low": "1e-6", "high": "1e-2"}}, "1e-06 to 0.01"),
        ({"learning_rate": {"low": 1e-4, "high": 1e-3, "step": 1e-4}}, "0.0001 to 0.001, step 0.0001"),
        ({"epochs": {"low": 3, "high": 9, "step": 2}}, "3 to 9, step 2"),
        ({"epochs": {"low": 3.0, "high": 9}}, "3 to 9"),
        ({"gradient_accumulation_steps": {"choices": [1, 2]}}, "one of 1, 2"),
        ({"scheduler": {"choices": ["constant", "cosine"]}}, "one of constant, cosine"),
        ({"horizontal_flip": {"choices": [True, False]}}, "one of True, False"),
    ],
)
def test_entries_are_read(entry: dict[str, Any], expected: str) -> None:
    (dimension,) = read_space("sweep.yaml", entry)
    assert str(dimension) == expected


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (None, "space: expected fields of the recipe"),
        (
            {"weight_decay": {"choices": [0]}},
            "space.weight_decay: no field of the recipe: expected one of model, epochs",
        ),
        ({"data": {"choices": ["a"]}}, "space.data: cannot be searched: expected one of model, epochs"),
        ({"learning_rate": 1e-5}, "space.learning_rate: 1e-05: expected low and high, or choices"),
        ({"learning_rate": {"low": 1e-2, "high": 1e-6}}, "low 0.01 is above high 1e-06"),
        ({"learning_rate": {"low": 1e-6}}, "space.learning_rate: no high"),
        ({"learning_rate": {"low": "small", "high": 1}}, "space.learning_rate.low: 'small': expected a number"),
        ({"learning_rate": {"low": 0.0, "high": 1.0}}, "space.learning_rate.low: learning_rate=0.0: expected a number"),
        ({"learning_rate": {"low": 1, "high": 2, "base": 10}}, "space.learning_rate.base: unknown key: expected low"),
        ({"learning_rate": {"low": 1, "high": 2, "log": "yes"}}, "space.learning_rate.log: 'yes': expected true"),
        ({"learning_rate": {"low": 1, "high": 2, "log": True, "step": 1}}, "log goes with no step"),
        ({"learning_rate": {"low": 1, "high": 2, "step": -1}}, "space.learning_rate.step: -1: expected more than 0"),
        ({"epochs": {"low": 1.5, "high": 3}}, "space.epochs.low: 1.5: expected a whole number"),
        ({"epochs": {"low": True, "high": 3}}, "space.epochs.low: True: expected a whole number"),
        ({"epochs": {"choices": [0, 5]}}, "space.epochs.choices: epochs=0: expected a whole number of at least 1"),
        ({"epochs": {"choices": []}}, "space.epochs.choices: []: expected a list of values"),
        ({"epochs": {"choices": [5, 5]}}, "space.epochs.choices: [5, 5]: expected every value once"),
        ({"epochs": {"choices": [5], "low": 1}}, "space.epochs.low: unknown key: expected choices"),
        ({"scheduler": {"choices": ["step"]}}, "space.scheduler.choices: scheduler=step: expected one of constant"),
        ({"scheduler": {"choices": [1]}}, "space.scheduler.choices: scheduler=1: expected a text"),
        ({"scheduler": {"low": 1, "high": 2}}, "space.scheduler: it is no number: expected choices"),
        (
            {"horizontal_flip": {"choices": ["yes"]}},
            "space.horizontal_flip.choices: horizontal_flip='yes': expected true or false",
        ),
    ],
)
def test_a_mistake_is_named(entries: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^sweep\.yaml: .*{re.escape(sentence)}"):
        read_space("sweep.yaml", entries)


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Dimension("learning_rate", low=1e-6, high=1e-2, log=True), (1e-6, 1e-5, 1e-2), (1e-7, 0.1)),
        (Dimension("epochs", low=3, high=9, step=2), (3, 5, 9), (1, 4, 11)),
        (Dimension("epochs", choices=(5, 7)), (5, 7), (6,)),
    ],
)
def test_what_a_dimension_contains(dimension: Dimension, inside: tuple[Any], outside: tuple[Any]) -> None:
    assert all(value in dimension for value in inside)
    assert not any(value in dimension for value in outside)


def test_suggestions_are_values_of_the_recipe() -> None:
    space = read_space(
        "sweep.yaml",
        {
            "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
            "epochs": {"low": 3, "high": 9, "step": 2},
            "scheduler": {"choices": ["constant", "cosine"]},
        },
    )
    study = optuna.create_study()
    for _ in range(10):
        values = space.suggest(study.ask())
        Recipe(**values)
        assert all(values[dimension.field] in dimension for dimension in space)
    assert space.most("epochs", Recipe(epochs=20)) == 9
    assert space.most("views", Recipe(views=3)) == 3


def test_the_baseline_is_the_recipes_own_and_must_lie_in_the_space() -> None:
    space = read_space("sweep.yaml", {"learning_rate": {"low": 1e-4, "high": 1e-2}})
    assert space.baseline(Recipe(learning_rate=1e-3)) == {"learning_rate": 1e-3}
    with pytest.raises(UserError, match=r"learning_rate=1e-05: the first trial tries it, and the search space is"):
        space.baseline(Recipe())


def test_only_fields_that_are_in_the_recipe_are_left_out() -> None:
    assert set(ENVIRONMENT_FIELDS) < set(vars(Recipe()))
