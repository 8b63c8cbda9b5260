"""The README's commands and programs, run as they stand there."""

import re

import pytest
from helpers import README, readme_block

from vjepa_mlflow.cli import commands


@pytest.mark.parametrize("ending", ["mlflow run . --env-manager local -P epochs=5", "pytest -n 2 --dist loadfile"])
def test_the_two_commands_are_one_line_each(ending: str) -> None:
    assert re.findall(rf"^python3 -m venv .* && {re.escape(ending)}$", README, re.MULTILINE)


def test_every_parameter_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"-P (\w+)=", README)) | set(re.findall(r"--(\w+)", readme_block("bash", "train --data")))
    named |= set(re.findall(r"--(\w+)", readme_block("bash", "postgresql://")))
    points = ("train", "sweep", "evaluate")
    options = {parameter.name for name in points for parameter in commands.commands[name].params}
    assert (
        {"data", "precision", "epochs", "registered_model_name", "trials", "storage", "workers", "resume"}
        <= named
        <= options
    )
