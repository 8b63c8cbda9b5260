"""The program that made the tiny checkpoint."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from beside import pretraining
from click.testing import CliRunner

from tools.pretrain_tiny import course
from tools.pretrain_tiny.__main__ import STEPS, main
from tools.pretrain_tiny.course import Course, style
from tools.pretrain_tiny.model import PREPROCESSING
from tools.pretrain_tiny.report import LOG
from tools.pretrain_tiny.training import LOG_EVERY
from tools.pretrain_tiny.vocabulary import make_vocabulary
from vjepa_mlflow.model import from_folder, load_processor, load_trained

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


def pretrain_tiny(folder: Path, *options: str) -> str:
    arguments = ["--output", str(folder / "checkpoint"), "--log", str(folder), "--steps", "3", "--batch-size", "4"]
    done = CliRunner().invoke(main, [*arguments, *options], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_it_makes_a_checkpoint_with_its_card_log_and_curve(tmp_path: Path) -> None:
    printed = pretrain_tiny(tmp_path)
    checkpoint = from_folder("made", tmp_path / "checkpoint")
    assert load_trained(checkpoint.folder).config.num_labels == len(make_vocabulary())
    assert load_processor(checkpoint).crop_size["height"] == 64
    (row,) = csv.DictReader((tmp_path / "log.csv").open())
    assert row["step"] == "3"
    assert f"loss {row['loss']}" in printed
    card = (checkpoint.folder / "README.md").read_text()
    assert "3 steps of 4" in card
    assert "{" not in card
    assert (tmp_path / "loss.png").stat().st_size > 5000


def test_the_same_seed_makes_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("first", "7"), ("second", "7"), ("third", "8")):
        pretrain_tiny(tmp_path / name, "--seed", seed)
    first, second, third = (
        from_folder(name, tmp_path / name / "checkpoint").revision for name in ("first", "second", "third")
    )
    assert first == second != third


def test_films_get_harder_and_stay_so() -> None:
    first, middle, last = style(0.0), style(course.FULL_DIFFICULTY / 2), style(1.0)
    assert first.contrast < 0.1 < middle.contrast < last.contrast == 1
    for name in ("speed", "spin", "growth"):
        assert getattr(first, name)[0] > getattr(middle, name)[0] > getattr(last, name)[0]
    assert last.radius[0] < first.radius[0] < first.radius[1] < last.radius[1]
    assert style(course.FULL_DIFFICULTY) == last


def test_a_course_draws_as_the_preprocessing_would_have_it() -> None:
    vocabulary = make_vocabulary()
    made = Course(list(vocabulary.values()), PREPROCESSING, seed=0, device=CPU)
    batches = list(made.batches(2, batch_size=3, frames=16))
    assert len(batches) == 2
    for pixels, labels in batches:
        assert pixels.shape == (3, 16, 3, 64, 64)
        assert labels.max() < len(vocabulary)
        assert 0.2 < pixels.std() < 3  # normalised
    assert len(torch.stack([pixels for pixels, _ in batches]).flatten(1).unique(dim=0)) == len(batches)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_goes_the_way_that_the_log_tells() -> None:
    logged = list(csv.DictReader((LOG / "log.csv").open()))
    assert int(logged[0]["step"]) == LOG_EVERY
    assert int(logged[-1]["step"]) == STEPS
    for row, line in zip(logged[:2], pretraining().result(), strict=True):
        said = re.match(r"step +(\d+)  loss (\S+)", line)
        assert said
        assert said[1] == row["step"]
        assert float(said[2]) == pytest.approx(float(row["loss"]), abs=1e-3)
