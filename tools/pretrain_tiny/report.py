"""What is kept of a pretraining: its log, its curve, and the checkpoint with a model card."""

import csv
from pathlib import Path

import torch
from matplotlib.figure import Figure
from transformers import VJEPA2ForVideoClassification

from tools.pretrain_tiny.course import FULL_DIFFICULTY
from tools.pretrain_tiny.training import Entry
from vjepa_mlflow.model import Preprocessing, make_processor

LOG = Path(__file__).parent
"""Where the log and the curve of the checkpoint in the package are."""

CARD = LOG / "card.md"
"""The model card, with gaps for what a pretraining came to."""


def write_log(entries: list[Entry], path: Path) -> None:
    """Writes a row for each entry, without its seconds: the rest is the same each time on the same kind of GPU."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "loss", "accuracy"])
        writer.writerows([entry.step, f"{entry.loss:.4f}", f"{entry.accuracy:.4f}"] for entry in entries)


def draw_curve(entries: list[Entry], path: Path) -> None:
    """Draws loss and accuracy over the steps."""
    steps = [entry.step for entry in entries]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(steps, [getattr(entry, name) for entry in entries], color="#1f5fa8")
        axes.axvline(FULL_DIFFICULTY * steps[-1], color="#999999", linewidth=0.8, linestyle="--")
        axes.set(xlabel="step", ylabel=name, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("dashed: from here on, films are as hard as they get", fontsize=9)
    figure.savefig(path, dpi=120)


def save_checkpoint(
    model: VJEPA2ForVideoClassification,
    preprocessing: Preprocessing,
    folder: Path,
    *,
    entries: list[Entry],
    batch_size: int,
) -> None:
    """Saves 16-bit weights, configuration, preprocessing and model card as a `from_pretrained` folder."""
    model.to("cpu", torch.float16).save_pretrained(folder)
    make_processor(preprocessing).save_pretrained(folder)
    last = entries[-1]
    card = CARD.read_text().format(
        parameters=f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f}",
        classes=model.config.num_labels,
        clips=f"{last.step * batch_size / 1e6:.2f}",
        steps=f"{last.step:,}",
        batch_size=batch_size,
        loss=f"{last.loss:.3f}",
        accuracy=f"{last.accuracy:.3f}",
    )
    (folder / "README.md").write_text(card)
