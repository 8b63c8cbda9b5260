import os
from contextlib import suppress

import pytest

from vjepa_mlflow.runtime.environment import temporary_environment

NAME = "VJEPA_MLFLOW_TESTED"


@pytest.mark.parametrize("before", [None, "", "before"])
def test_a_variable_is_as_before_also_after_an_error(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    if before is not None:
        monkeypatch.setenv(NAME, before)
    with suppress(KeyError), temporary_environment(NAME, "inside"):
        assert os.environ[NAME] == "inside"
        raise KeyError
    assert os.environ.get(NAME) == before
