"""The README's commands and programs, run as they stand there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from helpers import README, free_port, readme_block, server

from vjepa_mlflow import flavor
from vjepa_mlflow.cli import commands
from vjepa_mlflow.model import load_classifier, load_processor, locate

LABELS = ["left_clockwise", "right_clockwise"]


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


@pytest.fixture
def registered(tracking: str, clip: bytes) -> Path:
    """A working directory with `models:/motions/1` in its tracking store, and `clip.mp4`."""
    checkpoint = locate("tiny")
    with mlflow.start_run():
        flavor.log_model(
            load_classifier(checkpoint, LABELS, seed=0),
            load_processor(checkpoint),
            stride=4,
            registered_model_name="motions",
        )
    Path("clip.mp4").write_bytes(clip)
    return Path.cwd()


def test_serving_with_curl_and_loading_with_transformers_agree(
    registered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    promotion, serving = readme_block("bash", "promote models:/motions/1").splitlines()
    assert CliRunner().invoke(commands, promotion.split()[1:]).exit_code == 0
    command, _, readme_port = serving.rpartition(" -p ")
    assert command.startswith("mlflow ")
    with server([sys.executable, "-m", *command.split()], folder=registered, health="/ping", port=port):
        asked = readme_block("bash", "curl").replace(readme_port, str(port))
        answer = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout
    (prediction,) = json.loads(answer)["predictions"]
    (shown,) = json.loads(readme_block("json", "predictions"))["predictions"]
    assert prediction.keys() == shown.keys()
    assert [pair.keys() for pair in prediction["top_k"]] == [pair.keys() for pair in shown["top_k"]]

    capsys.readouterr()
    exec(readme_block("python", "from_pretrained"), {})
    scores = eval(capsys.readouterr().out.splitlines()[-1])
    assert {pair["label"]: pair["score"] for pair in prediction["top_k"]} == pytest.approx(scores, abs=1e-6)
