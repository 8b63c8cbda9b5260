"""The benchmarks run on a CPU too, and their report is made of what they wrote."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import REPOSITORY

import benchmarks.encoder
import benchmarks.recipe
from benchmarks import report, tiny
from vjepa_mlflow.model import TINY_FOLDER, from_folder


def run(program: ModuleType, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program.__name__, *arguments])
        program.main()


def test_the_recipe_beside_the_cards_loop_and_the_report(small_data: Path, tmp_path: Path) -> None:
    recipe, encoder = tmp_path / "recipe.json", tmp_path / "encoder.json"
    arguments = ["--data", str(small_data), "--epochs", "2", "--trials", "3", "--measured-trials", "2"]
    arguments += ["--precision", "fp32", "--encoding-seconds", "0.1"]
    run(benchmarks.recipe, *arguments, "--json", str(recipe))
    card, again, *ours = json.loads(recipe.read_text())["runs"]
    assert (card["name"], again["name"]) == ("card's loop", "card's loop, our reader")
    assert again["metrics"] == card["metrics"]
    cold, warm = (one for one in ours if one["name"].startswith("ours"))
    assert warm["seconds"] < cold["seconds"] / 2
    for one in (cold, warm):
        assert one["metrics"]["train_loss"] == pytest.approx(card["metrics"]["train_loss"], abs=1e-5)
        assert one["metrics"]["val_accuracy"] == card["metrics"]["val_accuracy"]
        assert one["metrics"]["test_accuracy"] == card["metrics"]["test_accuracy"]
    assert all(one["seconds"] > 0 for one in ours)

    run(
        benchmarks.encoder,
        "--precision",
        "fp32",
        "bf16",
        "--batch-size",
        "2",
        "--window",
        "2",
        "--json",
        str(encoder),
    )
    measured = json.loads(encoder.read_text())
    assert {row["encoder"] for row in measured["encoder"]} == {"ours", "transformers"}
    assert all(row["ms"] > 0 for row in measured["encoder"] + measured["head"])

    for name in ("sweep.json", "serving.json", "tiny.json", "coverage.json"):  # whose programs take too long for here
        shutil.copy(REPOSITORY / "benchmarks" / "results" / name, tmp_path)
    report.write(tmp_path, tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| card's loop | fp32 |" in text
    assert "100 million" in text
    assert "times faster than 20 runs" in text
    assert "| pretrained | 0 |" in text
    assert "| 4 | even |" in text
    assert "| 1 | 32 | 2500 | 0 |" in text
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_pretrained_features_are_probed_beside_random_ones(small_data: Path, tmp_path: Path) -> None:
    pretrained = from_folder("pretrained", TINY_FOLDER)
    random = tiny.random_checkpoint(tmp_path / "random", seed=0)
    assert random.revision != pretrained.revision
    dataset = tiny.read_dataset(str(small_data), pretrained)
    first, second = (tiny.probe(checkpoint, str(small_data), dataset) for checkpoint in (pretrained, random))
    assert first["videos"] == 18
    assert (first["weights"], second["weights"]) == ("pretrained", "random")
    assert first["accuracy"] > second["accuracy"]
