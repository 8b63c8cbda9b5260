from pathlib import Path

import pytest

from vjepa_mlflow.tracking.undelivered import DamagedError


@pytest.mark.parametrize(("damage", "begins"), [(["a: is gone"], "a: is gone: "), (["a", "b", "c"], "a, and 2 more: ")])
def test_an_error_names_the_first_damage_and_counts_the_rest(damage: list[str], begins: str) -> None:
    message = str(DamagedError(Path("/a folder"), damage))
    assert message.startswith(f"{begins}what is damaged cannot be delivered and stays")
    assert message.endswith("vjepa-mlflow upload '/a folder'")
