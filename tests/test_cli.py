import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from helpers import REPOSITORY, environment
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, flavor
from vjepa_mlflow.cli import commands, main
from vjepa_mlflow.model import load_classifier, load_processor, locate
from vjepa_mlflow.tracking import FAILURE_TAG

BASELINE = REPOSITORY / "sweeps" / "baseline.yaml"


def test_there_is_one_option_for_each_field_of_the_recipe() -> None:
    options = {parameter.name: parameter for parameter in commands.commands["train"].params}
    defaults = {name: option.default for name, option in options.items() if name != "help"}
    assert defaults == dataclasses.asdict(Recipe()) | {"resume": "", "save_steps": 0}
    for name, option in options.items():
        if name != "help":
            assert option.opts == [f"--{name.replace('_', '-')}"]
            assert option.help


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--epochs", "0"], "epochs=0: expected a whole number of at least 1"),
        (["--learning-rate", "abc"], "Invalid value for '--learning-rate': 'abc' is not a valid float."),
        (["--precision", "fp8"], "Invalid value for '--precision': 'fp8' is not one of 'fp32', 'tf32', 'bf16'."),
        (["--data", "nowhere"], "data=nowhere: no such folder or table"),
        (["--model", "./nowhere"], "model=./nowhere: no such folder"),
        (["--device", "cuda:7"], "device=cuda:7: this machine has"),
        (["--no-such-option"], "No such option '--no-such-option'"),
    ],
)
def test_a_users_mistake_is_one_line_and_fails(
    tracking: str, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments])
    assert stopped.value.code not in (0, None)
    errors = [text for text in capsys.readouterr().err.splitlines() if " INFO mlflow" not in text]
    assert len(errors) == 1
    assert errors[0].startswith(f"Error: {line}")


def test_a_mistake_marks_the_run_that_mlflow_prepared(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with pytest.raises(SystemExit):
        main(["train", "--learning-rate", "abc"])
    run = MlflowClient().get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags[FAILURE_TAG] == "Invalid value for '--learning-rate': 'abc' is not a valid float."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_asked_to_stop_says_so_in_a_line(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vjepa_mlflow.commands.features.describe", lambda: signal.raise_signal(number))
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        main(["features"])
    assert stopped.value.code == 130
    assert capsys.readouterr().err.strip() == "Error: interrupted"
    assert signal.getsignal(number) == before


@pytest.fixture
def model_uri(tmp_path: Path) -> str:
    checkpoint = locate("tiny")
    model = load_classifier(checkpoint, ["ape", "bee"], seed=0)
    flavor.save_model(model, load_processor(checkpoint), tmp_path / "model", stride=4)
    return str(tmp_path / "model")


def test_predict_prints_rows_or_writes_them_to_a_file(model_uri: str, small_data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["predict", model_uri, str(small_data / "val")])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(str(small_data / "val/left_clockwise/5.mp4"))
    assert lines[0].endswith(("ape", "bee"))
    output = tmp_path / "predictions.csv"
    result = CliRunner().invoke(commands, ["predict", model_uri, str(small_data / "val"), "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"4 predictions in {output}\n"
    rows = output.read_text().splitlines()
    assert rows[0] == "path,label,score,warning,error,model,num_clips"
    assert len(rows) == 5


def test_predict_tells_bad_files_and_fails_after_the_others(
    model_uri: str, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\x00\x00")
    with pytest.raises(SystemExit) as stopped:
        main(["predict", model_uri, str(bad), str(small_data / "val/left_clockwise/5.mp4")])
    captured = capsys.readouterr()
    assert stopped.value.code == 2
    assert captured.err.splitlines()[-1] == "Error: 1 of 2 files could not be read"
    assert [line.split()[-1] in ("ape", "bee") for line in captured.out.splitlines()] == [False, True]


def test_only_what_a_run_left_can_be_uploaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["upload", str(tmp_path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(
        f"Error: {tmp_path}: expected a folder that a run named when its tracking"
    )


def test_help_and_the_public_names_load_no_torch() -> None:
    program = (
        "import sys, vjepa_mlflow, vjepa_mlflow.cli\n"
        "vjepa_mlflow.Recipe()\n"
        "assert not {'torch', 'mlflow', 'transformers', 'av'} & set(sys.modules), sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True)


EARLY = """
import sys
from vjepa_mlflow.cli import main

HEAVY = {"torch", "transformers", "mlflow", "av", "matplotlib", "sklearn", "scipy", "huggingface_hub"}
for arguments in %r:
    try:
        main(arguments)
    except SystemExit as stopped:
        assert stopped.code == 2
    assert not HEAVY & set(sys.modules), (arguments, HEAVY & set(sys.modules))
"""
"""Makes one mistake after the other, and looks at what was imported by then."""


def test_a_mistake_is_told_before_anything_heavy_is_imported(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("path,label\n1.mp4,a\n2.mp4\n")
    (tmp_path / "one.csv").write_text(f"path,label\n{small_data}/train/left_clockwise/0.mp4,a\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.yaml").write_text("metric: [")
    (tmp_path / "sampler.yaml").write_text(BASELINE.read_text().replace("n_startup_trials: 8", "startup: 8"))
    good, sweep = ["--data", str(small_data)], ["sweep", str(BASELINE)]
    mistakes = [
        (["train", "--no-such-option"], "No such option '--no-such-option'"),
        (["train", "--epochs", "0"], "epochs=0: expected a whole number of at least 1"),
        (["train", "--device", "tpu"], "device=tpu: expected auto, cpu, cuda or cuda:N"),
        (["train", "--registered-model-name", "a/b"], "registered_model_name=a/b: expected a name without / and :"),
        (["train", "--save-steps", "-1"], "save_steps=-1: expected a whole number of at least 0"),
        (["train", "--data", "/nowhere"], "data=/nowhere: no such folder or table"),
        (["train", "--data", "~no-such-user/a"], "data=~no-such-user/a: its ~ stands for no folder"),
        (["train", *good, "--model", "~no-such-user/a"], "model=~no-such-user/a: its ~ stands for no folder"),
        (["train", "--data", str(tmp_path / "empty")], f"data={tmp_path}/empty: no videos found"),
        (["train", "--data", str(tmp_path / "rows.csv")], f"data={tmp_path}/rows.csv, line 3: 1 cells: expected 2"),
        (["train", "--data", str(tmp_path / "one.csv")], f"data={tmp_path}/one.csv: only one class, 'a'"),
        (["train", *good, "--model", "./nowhere"], "model=./nowhere: no such folder"),
        (["train", *good, "--model", str(tmp_path)], f"model={tmp_path}: no config.json"),
        (["extract", "--data", "/nowhere"], "data=/nowhere: no such folder or table"),
        (["evaluate", "models:/a/1", "--data", "/nowhere"], "data=/nowhere: no such folder or table"),
        (["evaluate", "models:/a/1", *good, "--num-clips", "99"], "num_clips=99: expected a whole number from 1 to 32"),
        (["predict", "models:/a/1", "/nowhere"], "/nowhere: no such file or folder"),
        (["sweep", "/nowhere.yaml"], "/nowhere.yaml: cannot be read (No such file or directory)"),
        (["sweep", str(tmp_path / "no.yaml")], f"{tmp_path}/no.yaml: no YAML"),
        (["sweep", str(tmp_path / "sampler.yaml")], f"{tmp_path}/sampler.yaml: sampler.startup: unknown key"),
        ([*sweep, "--trials", "0"], "trials=0: expected a whole number of at least 1"),
        ([*sweep, "--learning-rate", "9"], "learning_rate=9.0: the first trial tries it"),
        ([*sweep, "--data", "/nowhere"], "data=/nowhere: no such folder or table"),
    ]
    program = EARLY % [arguments for arguments, _ in mistakes]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(mistakes)
    for line, (_, expected) in zip(lines, mistakes, strict=True):
        assert line.startswith(f"Error: {expected}")


def test_the_public_names_are_there() -> None:
    import vjepa_mlflow

    for name in vjepa_mlflow.__all__:
        assert getattr(vjepa_mlflow, name)
    with pytest.raises(AttributeError, match="no_such_name"):
        vjepa_mlflow.no_such_name  # noqa: B018


def test_the_package_runs_as_a_module_and_joins_no_run(tracking: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "vjepa_mlflow", "train", "--epochs", "0"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr == "Error: epochs=0: expected a whole number of at least 1\n"
    assert not mlflow.search_runs(output_format="list")
