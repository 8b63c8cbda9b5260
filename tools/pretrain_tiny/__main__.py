"""The command: from random weights to the checkpoint in the package."""

import os
from pathlib import Path

import click
import torch

from tools.pretrain_tiny.course import Course
from tools.pretrain_tiny.model import PREPROCESSING, make_model
from tools.pretrain_tiny.report import LOG, draw_curve, save_checkpoint, write_log
from tools.pretrain_tiny.training import Entry, pretrain
from tools.pretrain_tiny.vocabulary import make_vocabulary
from vjepa_mlflow.model import TINY_FOLDER

STEPS = 22_500
BATCH_SIZE = 256


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=TINY_FOLDER, show_default=True, help="Checkpoint.")
@click.option("--log", type=click.Path(path_type=Path), default=LOG, show_default=True, help="Log and curve.")
@click.option("--steps", type=click.IntRange(min=1), default=STEPS, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=BATCH_SIZE, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(output: Path, log: Path, steps: int, batch_size: int, seed: int) -> None:
    """Makes the tiny checkpoint from generated films; about six minutes on an H100."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    make_repeatable()
    vocabulary = make_vocabulary()
    model = make_model(list(vocabulary), seed=seed).to(device)
    course = Course(list(vocabulary.values()), PREPROCESSING, seed=seed, device=device)

    entries: list[Entry] = []
    for entry in pretrain(model, course, steps=steps, batch_size=batch_size):
        entries.append(entry)
        click.echo(f"step {entry.step:6}  loss {entry.loss:.4f}  accuracy {entry.accuracy:.4f}  {entry.seconds:6.1f} s")

    output.mkdir(parents=True, exist_ok=True)
    log.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, PREPROCESSING, output, entries=entries, batch_size=batch_size)
    write_log(entries, log / "log.csv")
    draw_curve(entries, log / "loss.png")
    click.echo(f"Checkpoint in {output}, log and curve in {log}")


def make_repeatable() -> None:
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # which costs time, and nothing here reads it


if __name__ == "__main__":
    main()
