"""`MLproject` is as it is generated, and its values come back from YAML as what they are."""

from decimal import Decimal

import pytest
import yaml

from tools import mlproject


def test_the_file_is_as_it_is_generated() -> None:
    assert mlproject.FILE.read_text(encoding="utf-8") == mlproject.project(), "run python -m tools.mlproject"


@pytest.mark.parametrize("text", ["", "demo", "no", "1e-5", "1", "a: b", "sweeps/baseline.yaml", "# none", "é"])
def test_texts_stay_texts(text: str) -> None:
    assert yaml.safe_load(f"{{default: {mlproject._in_yaml(text)}}}") == {"default": text}


@pytest.mark.parametrize("number", [0, 5, 0.0, 1e-5, 0.25, 100.0, 3e20])
def test_numbers_stay_numbers(number: float) -> None:
    value = yaml.safe_load(mlproject._in_yaml(number))
    assert not isinstance(value, str)
    assert Decimal(str(value)) == Decimal(str(number))


def test_a_flag_is_a_text() -> None:
    assert yaml.safe_load(mlproject._in_yaml(False)) == "false"
