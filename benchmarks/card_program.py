"""The model card's loop as a program of its own, from videos in folders to a saved model.

    python -m benchmarks.card_program --data FOLDER --model CHECKPOINT --output FOLDER

What its user would have written: nothing of this package, no MLflow. The last line that it prints is JSON: how long the
loop took, of all the seconds of its process, and the metrics.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from benchmarks import card_loop
from benchmarks.card_loop import Clip, Clips

SPLITS = ("train", "val", "test")
LEARNING_RATE = 1e-5
ACCUMULATION = 4
STRIDE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with train, val and test, each with classes")
    parser.add_argument("--model", type=Path, required=True, help="a folder for from_pretrained")
    parser.add_argument("--output", type=Path, required=True, help="where the trained model is saved")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)

    labels = sorted(folder.name for folder in (options.data / "train").iterdir() if folder.is_dir())
    splits = {split: read_split(options.data / split, labels) for split in SPLITS}
    processor = VJEPA2VideoProcessor.from_pretrained(options.model)
    model = load_model(options.model, labels)

    def clips(chosen: list[Clip]) -> Clips:
        return Clips(chosen, processor, num_frames=model.config.frames_per_clip, stride=STRIDE)

    started = time.perf_counter()
    metrics = card_loop.train(
        model,
        epochs=[clips(shuffled_views(splits["train"])) for _ in range(options.epochs)],
        val=clips(splits["val"]),
        test=clips(splits["test"]),
        learning_rate=LEARNING_RATE,
        accumulation=ACCUMULATION,
    )
    loop = time.perf_counter() - started
    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)
    print(json.dumps({"loop_seconds": loop, **metrics}))


def read_split(folder: Path, labels: list[str]) -> list[Clip]:
    """The videos of a split's classes, seen in the middle."""
    return [Clip(path, number) for number, label in enumerate(labels) for path in sorted((folder / label).iterdir())]


def load_model(folder: Path, labels: list[str]) -> VJEPA2ForVideoClassification:
    """A checkpoint with a new classifier, in fp32, its backbone frozen."""
    model = VJEPA2ForVideoClassification.from_pretrained(
        folder,
        dtype=torch.float32,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        ignore_mismatched_sizes=True,
    )
    model.vjepa2.requires_grad_(False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def shuffled_views(clips: list[Clip]) -> list[Clip]:
    """Each video from another moment on and with another crop, in another order."""
    views = [clip._replace(position=random.random(), corner=(random.random(), random.random())) for clip in clips]
    random.shuffle(views)
    return views


if __name__ == "__main__":
    main()
