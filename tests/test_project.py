"""`MLproject` and `conda.yaml`: that they say what the package says, and that `mlflow run` runs them."""

import os
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import click
import mlflow
import pytest
import yaml
from helpers import PYPROJECT, REPOSITORY, environment, wait_until
from mlflow import MlflowClient
from mlflow.projects._project_spec import load_project

from vjepa_mlflow import Recipe, flavor
from vjepa_mlflow.cli import commands, main
from vjepa_mlflow.model import load_classifier, load_processor, locate
from vjepa_mlflow.tracking import FAILURE_TAG

COMMANDS = {"main": "train", "extract": "extract", "sweep": "sweep", "evaluate": "evaluate"}
"""The command that each entry point runs."""


@pytest.fixture(params=COMMANDS)
def entry(request: pytest.FixtureRequest) -> tuple[str, dict]:
    project = yaml.safe_load((REPOSITORY / "MLproject").read_text())
    assert set(project["entry_points"]) == set(COMMANDS)
    return COMMANDS[request.param], project["entry_points"][request.param]


def test_conda_installs_what_the_package_depends_on() -> None:
    environment = yaml.safe_load((REPOSITORY / "conda.yaml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == PYPROJECT["project"]["dependencies"]


def test_the_projects_parameters_are_the_commands_options_with_their_defaults(entry: tuple[str, dict]) -> None:
    name, point = entry
    command = commands.commands[name]
    options = {parameter.name: parameter for parameter in command.params if parameter.name != "help"}
    context = click.Context(command)
    assert list(point["parameters"]) == list(options)
    defaults = {
        name: options[name].type.convert(str(parameter["default"]), options[name], context)
        for name, parameter in point["parameters"].items()
        if name != "model_uri"  # which has none
    }
    argument = {"file": Path("sweeps/baseline.yaml")}  # which has no default of its own
    for name, option in options.items():
        if name == "model_uri":
            continue
        assert defaults[name] == argument.get(name, option.default)
        assert defaults[name] == getattr(Recipe(), name, defaults[name])
    kinds = {int: "int", float: "float", str: "string", bool: "string"}
    for name, parameter in point["parameters"].items():
        assert parameter["type"] == kinds.get(type(defaults.get(name)), "string")


def test_the_projects_command_passes_every_parameter_on(entry: tuple[str, dict]) -> None:
    name, point = entry
    program, _, options = point["command"].partition(" --")
    arguments = {"sweep": " {file}", "evaluate": " {model_uri}"}
    assert program == f"python -m vjepa_mlflow {name}{arguments.get(name, '')}"
    words = shlex.split(f"--{options}")
    passed = dict(zip(words[::2], words[1::2], strict=True))
    expected = [name for name in point["parameters"] if name not in ("file", "model_uri")]
    assert passed == {f"--{name.replace('_', '-')}": f"{{{name}}}" for name in expected}


def mlflow_run(*arguments: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(REPOSITORY), *arguments],
        cwd=folder,
        # The project must run from its folder alone.
        env=environment(**{"PYTHONPATH": "", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", **changes}),
        capture_output=True,
        text=True,
    )


def only_run() -> mlflow.entities.Run:
    (run,) = mlflow.search_runs(output_format="list")
    return run


CONDA = """#!/bin/sh
# Stands for conda: knows one kind of environment, the Python that runs the tests.
echo "$@" >> "$(dirname "$0")/../asked.txt"
case "$1 $2" in
  "env list") echo '{"envs": []}' ;;
  "env create") ;;
esac
"""


def test_mlflow_run_goes_the_conda_way_and_trains_whatever_the_data_is_called(
    tracking: str, small_data: Path, tmp_path: Path
) -> None:
    """On videos that are quicker than the demo, on which `.ci/run` runs the README's first command."""
    home = tmp_path / "conda"
    (home / "bin").mkdir(parents=True)
    (home / "etc" / "profile.d").mkdir(parents=True)
    (home / "bin" / "conda").write_text(CONDA)
    (home / "bin" / "conda").chmod((home / "bin" / "conda").stat().st_mode | stat.S_IXUSR)
    (home / "etc" / "profile.d" / "conda.sh").write_text('conda() { echo "activated $2"; }\n')
    data = tmp_path / "it's not; there $(touch executed) `touch executed` \"&"
    data.symlink_to(small_data)
    values = {"model": "tiny", "epochs": "2", "learning_rate": "1e-3"}
    parameters = [word for name, value in {"data": data, **values}.items() for word in ("-P", f"{name}={value}")]
    done = mlflow_run(*parameters, folder=Path.cwd(), MLFLOW_CONDA_HOME=str(home))
    assert done.returncode == 0, done.stderr
    asked = (home / "asked.txt").read_text().splitlines()
    (created,) = [line for line in asked if line.startswith("env create")]
    assert str(REPOSITORY / "conda.yaml") in created

    run = only_run()
    assert run.info.status == "FINISHED"
    assert len(MlflowClient().get_metric_history(run.info.run_id, "val_accuracy")) == 2
    assert run.data.metrics["test_accuracy"] > 0.7  # chance is 0.5
    assert run.data.params.items() >= {**values, "train_videos": "10"}.items()
    assert run.data.params["checkpoint"] == "tiny"
    (model,) = mlflow.search_logged_models(output_format="list")
    assert model.source_run_id == run.info.run_id
    assert "Best epoch" in done.stdout
    assert not [*Path.cwd().glob("executed"), *REPOSITORY.glob("executed")]


def test_ctrl_c_under_mlflow_run_is_one_request_to_stop(tracking: str, small_data: Path) -> None:
    """The terminal sends SIGINT to all, upon which MLflow sends SIGTERM and marks the run as FAILED in the end."""
    values = {"data": small_data, "model": "tiny", "epochs": "500", "learning_rate": "1e-3", "views": "1"}
    parameters = [word for name, value in values.items() for word in ("-P", f"{name}={value}")]
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow", "run", str(REPOSITORY), "--env-manager", "local", *parameters],
        env=environment(PYTHONPATH="", MLFLOW_TRACKING_URI=tracking),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as project:
        assert project.stdout is not None
        while not (line := project.stdout.readline()).startswith("Epoch 1/"):
            assert line
        os.killpg(project.pid, signal.SIGINT)
        said = project.stdout.read()
    assert said.count("Stopping after this step") == 1
    wait_until(lambda: only_run().info.status == "KILLED")
    run = only_run()
    assert f"the same command with --resume {run.info.run_id}" in run.data.tags[FAILURE_TAG]
    assert MlflowClient().list_artifacts(run.info.run_id, "checkpoint")


def test_the_evaluation_that_mlflow_run_would_start_runs(
    tracking: str, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = locate("tiny")
    model = load_classifier(checkpoint, ["left_clockwise", "right_clockwise"], seed=0)
    flavor.save_model(model, load_processor(checkpoint), tmp_path / "model", stride=4)
    project = load_project(str(REPOSITORY))
    values = {"model_uri": str(tmp_path / "model"), "data": str(small_data)}
    python, _, module, *arguments = shlex.split(project.get_entry_point("evaluate").compute_command(values, None))
    assert (python, module) == ("python", "vjepa_mlflow")
    main(arguments)
    run = only_run()
    assert run.info.status == "FINISHED"
    assert f"Accuracy           {run.data.metrics['test_accuracy']:.3f}" in capsys.readouterr().out
