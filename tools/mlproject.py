"""`MLproject`, which `mlflow run` reads: made of the command line, so that parameters and defaults stand once.

    python -m tools.mlproject    # writes it anew

Each entry point runs a command, and has a parameter for each of its arguments and options, with its type and default.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import yaml

from vjepa_mlflow.cli import commands

FILE = Path(__file__).parent.parent / "MLproject"

ENTRY_POINTS = {"main": "train", "extract": "extract", "sweep": "sweep", "evaluate": "evaluate"}
"""The command that each entry point runs; `main` is what runs where none is named."""

ARGUMENT_DEFAULTS = {"file": "sweeps/baseline.yaml"}
"""Of arguments, which have none on the command line, by parameter."""

TYPES = {int: "int", float: "float"}
"""What MLflow calls the types of defaults; all others are text to it."""

HEAD = """name: vjepa-mlflow

conda_env: conda.yaml

# Made by `python -m tools.mlproject` of the commands in vjepa_mlflow/cli.py and the fields of vjepa_mlflow/recipe.py.
entry_points:
"""


def project() -> str:
    """The file's content."""
    points = (_entry_point(point, commands.commands[command]) for point, command in ENTRY_POINTS.items())
    return HEAD + "\n".join("".join(f"{line}\n" for line in lines) for lines in points)


def _entry_point(name: str, command: click.Command) -> Iterator[str]:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    options = [one for one in command.params if isinstance(one, click.Option)]
    yield f"  {name}:"
    yield "    parameters:"
    yield from (f"      {one.name}: {{{_described(one)}}}" for one in command.params)
    yield "    command: >-"
    yield " ".join([f"      python -m vjepa_mlflow {command.name}", *(f"{{{one.name}}}" for one in arguments)])
    yield from (f"      {one.opts[0]} {{{one.name}}}" for one in options)


def _described(parameter: click.Parameter) -> str:
    """A parameter's type, and its default where it has one."""
    is_argument = isinstance(parameter, click.Argument)
    default = ARGUMENT_DEFAULTS.get(str(parameter.name)) if is_argument else parameter.default
    kind = f"type: {TYPES.get(type(default), 'string')}"
    return kind if default is None else f"{kind}, default: {_in_yaml(default)}"


def _in_yaml(default: Any) -> str:
    if type(default) in TYPES:
        return f"{Decimal(str(default)).normalize():f}"  # YAML takes 1e-05 for a text
    text = str(default).lower() if isinstance(default, bool) else str(default)
    is_plain = re.fullmatch(r"[A-Za-z][\w./-]*", text) and yaml.safe_load(text) == text
    return text if is_plain else json.dumps(text)


if __name__ == "__main__":
    FILE.write_text(project(), encoding="utf-8")
