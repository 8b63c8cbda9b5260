import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from vjepa_mlflow import Recipe, extract
from vjepa_mlflow.cli import commands


def run(*arguments: str) -> str:
    result = CliRunner().invoke(commands, ["features", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: Path) -> Path:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    for precision in ("fp32", "bf16"):
        extract(Recipe(data=str(small_data), model="tiny", epochs=1, precision=precision))
    return tmp_path / "cache" / "features"


def test_an_empty_store_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    assert run().startswith(f"{tmp_path}/cache/features: 0 features, 0.00 GiB; ")


def test_it_shows_each_space_and_prunes_by_age_and_by_size(filled: Path) -> None:
    head, names, *spaces = run().splitlines()
    assert head.startswith(f"{filled}: 36 features, 0.00 GiB; ")
    assert names.split()[:3] == ["space", "features", "GiB"]
    assert {space.split()[1] for space in spaces} == {"18"}
    assert sorted(space.split()[4] for space in spaces) == ["bf16", "fp32"]

    files = sorted(filled.rglob("*.safetensors"))
    for file in files[:5]:
        os.utime(file, (time.time() - 10 * 24 * 3600,) * 2)
    assert run("--older-than", "9").splitlines()[0] == "Deleted 5 features, 0.00 GiB"
    assert sorted(filled.rglob("*.safetensors")) == files[5:]
    run("--max-size", "0")
    assert not list(filled.rglob("*.safetensors"))
    assert run().count("\n") == 1


@pytest.mark.parametrize("option", ["--older-than", "--max-size"])
def test_negative_numbers_are_refused(option: str) -> None:
    result = CliRunner().invoke(commands, ["features", option, "-1"])
    assert result.exit_code == 2
    assert option in result.output
