"""Every command that takes a model, with one that brings code, and with one that is damaged."""

import shutil
import sys
from pathlib import Path

import mlflow
import pytest
import yaml
from click.testing import CliRunner
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file, save_file

from vjepa_mlflow import flavor
from vjepa_mlflow.cli import commands, main
from vjepa_mlflow.flavor.faults import OUR_FAULT
from vjepa_mlflow.model import load_classifier, load_processor, locate

LABELS = ["left_clockwise", "right_clockwise"]

HEAD = "checkpoint/model-00002-of-00002.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = locate("tiny")
    path = tmp_path_factory.mktemp("saved") / "model"
    flavor.save_model(load_classifier(checkpoint, LABELS, seed=0), load_processor(checkpoint), path, stride=4)
    return path


@pytest.fixture(scope="module")
def uris(saved: Path, module_tracking: Path) -> dict[str, str]:
    """A model that brings code, one that another loader is to load, one that was changed, and one of an old package."""
    mark = module_tracking / "mark"

    def copy(name: str) -> Path:
        folder = Path(shutil.copytree(saved, module_tracking / name, ignore=shutil.ignore_patterns("vjepa_mlflow")))
        (folder / "code/evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
        return folder

    copy("whole")
    edit(copy("loader") / "MLmodel", "loader_module: vjepa_mlflow.flavor", "loader_module: evil")
    weights = copy("changed") / HEAD
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    fill(copy("nan"), float("nan"))
    with mlflow.start_run() as run:
        for name in ("whole", "loader", "changed", "nan"):
            mlflow.log_artifacts(str(module_tracking / name), name)
    return {name: f"runs:/{run.info.run_id}/{name}" for name in ("whole", "loader", "changed", "nan")}


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def fill(folder: Path, value: float) -> None:
    """Makes a model's classifier one of this value, as if a package that notes no digests had saved it."""
    weights = load_file(folder / HEAD)
    weights["classifier.weight"][:] = value
    save_file(weights, folder / HEAD, metadata={"format": "pt"})
    said = yaml.safe_load((folder / "MLmodel").read_text())
    said["flavors"]["vjepa_mlflow"] |= {"format_version": 4}
    (folder / "MLmodel").write_text(yaml.safe_dump(said))


COMMANDS = {
    "predict": ["predict", "{model}", "{data}/val"],
    "evaluate": ["evaluate", "{model}", "--data", "{data}"],
    "unseen by": ["evaluate", "{whole}", "--unseen-by", "{model}", "--data", "{data}"],
    "train": ["train", "--model", "{model}", "--data", "{data}", "--epochs", "1"],
    "extract": ["extract", "--model", "{model}", "--data", "{data}", "--epochs", "1"],
    "sweep": ["sweep", "{space}", "--model", "{model}", "--data", "{data}", "--epochs", "1", "--study", "{study}"],
}
# Of the other model only what it has seen is asked.
UNREAD = {("unseen by", "changed"), ("unseen by", "nan")}
SENTENCES = {
    "loader": "MLmodel: loader_module='evil': expected vjepa_mlflow.flavor",
    "changed": "its weights were changed after they were saved: expected the files that were saved",
    "nan": "classifier.weight holds values that are no numbers: expected finite weights",
}


def words(command: str, uris: dict[str, str], model: str, data: Path) -> list[str]:
    space = Path(__file__).parents[2] / "sweeps/baseline.yaml"
    named = {"model": uris[model], "whole": uris["whole"], "data": data, "space": space, "study": model}
    return [word.format(**named) for word in COMMANDS[command]]


@pytest.mark.parametrize(
    ("command", "model"),
    [(command, model) for command in COMMANDS for model in SENTENCES if (command, model) not in UNREAD],
)
def test_every_command_refuses_a_damaged_model_in_a_sentence(
    uris: dict[str, str], small_data: Path, command: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words(command, uris, model, small_data))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("Error: ")
    assert error.splitlines()[-1].endswith(SENTENCES[model])


@pytest.mark.parametrize("command", ["predict", "evaluate", "unseen by", "extract"])
def test_no_command_looks_for_code_in_a_model(
    uris: dict[str, str], small_data: Path, undrawn: None, module_tracking: Path, command: str
) -> None:
    before = list(sys.path)
    done = CliRunner().invoke(commands, words(command, uris, "whole", small_data))
    assert done.exit_code == 0 or command == "unseen by", done.output
    assert sys.path == before
    assert not (module_tracking / "mark").exists()


@pytest.fixture(scope="module")
def overflowing(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of finite weights whose sums are not."""
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("overflowing") / "model"))
    fill(folder, 3e38)
    return str(folder)


SENTENCE = "the model's answer is no number: expected probabilities"


def test_answers_that_are_no_numbers_are_not_told(
    overflowing: str, module_tracking: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["predict", overflowing, str(small_data / "val")],
        ["evaluate", overflowing, "--data", str(small_data)],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert stopped.value.code == 2
        said = capsys.readouterr()
        assert SENTENCE in said.err.splitlines()[-1]
        assert "nan" not in said.out


def test_a_server_answers_that_they_are_its_fault(
    overflowing: str, clip: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MlflowException, match=OUR_FAULT) as caught:
        mlflow.pyfunc.load_model(overflowing).predict(flavor.example_input(clip))
    assert caught.value.get_http_status_code() == 500
    assert SENTENCE in caplog.text
