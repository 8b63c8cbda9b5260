"""The recipe, end to end from video files: the card's loop beside ours, one after the other on the same clips.

    python -m benchmarks.recipe --data FOLDER --model random-vitl --json recipe.json

(a) the card's loop in fp32, and again with our reader of videos in its workers; for each precision (b) ours, the store
empty, (c) ours again with the store that (b) left, (d) a number of trials with other learning rates, the first of which
encodes everything, (e) how fast files are encoded when that is all there is to do. What is compiled is compiled before
the clock starts, and that time is told apart.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import card_loop, common
from vjepa_mlflow.data import VideoDataset
from vjepa_mlflow.features import (
    Clip,
    Encoder,
    EvaluationSet,
    FeatureSource,
    TrainingSet,
    evaluation_clips,
    training_clips,
    training_order,
)
from vjepa_mlflow.model import (
    Checkpoint,
    Head,
    LoadedBackbone,
    head_forms,
    matmul_precision,
    use_device,
)
from vjepa_mlflow.recipe import PRECISIONS, Recipe
from vjepa_mlflow.training import HeadPasses, TrainingState, classification_metrics, fit, predict, readings_to_come
from vjepa_mlflow.video import read_clip


@dataclass
class Run:
    """One way to train, measured."""

    name: str
    precision: str
    seconds: float
    train_clips: int
    peak_memory_gib: float | None
    metrics: dict[str, object]
    extra: dict[str, object] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--model", default="tiny", help=f"a checkpoint, or {common.RANDOM_VITL}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--trials", type=int, default=20, help="of which the cost is told")
    parser.add_argument("--measured-trials", type=int, help="how many of them are run; all unless fewer are asked for")
    parser.add_argument("--encoding-seconds", type=float, default=8, help="how long about files are encoded alone")
    parser.add_argument("--limit", type=int, help="videos of each split")
    parser.add_argument("--json")
    options = parser.parse_args()

    device = use_device(options.device)
    checkpoint = common.find_checkpoint(options.model)
    recipe = Recipe(data=options.data, epochs=options.epochs, learning_rate=options.learning_rate)
    dataset = common.read_dataset(
        options.data, num_frames=checkpoint.frames_per_clip, stride=recipe.stride, limit=options.limit
    )
    benchmark = Benchmark(checkpoint, dataset, recipe, device)
    sizes = {name: len(samples) for name, samples in dataset.splits.items()}
    results: dict[str, object] = {
        "machine": common.machine(device),
        "model": options.model,
        "data": options.data,
        "videos": sizes,
        "epochs": options.epochs,
        "trials": options.trials,
    }
    print(results, flush=True)
    runs: list[Run] = []
    for run in benchmark.runs(options):
        runs.append(run)
        show(run, runs[0], trials=options.trials)
        results["runs"] = [vars(one) for one in runs]
        common.write_json(options.json, results)


def show(run: Run, card: Run, *, trials: int) -> None:
    """Prints a run as a line of the table: beside so many card's loops where it is so many trials."""
    ratio = card.seconds * (trials if "trials" in run.name else 1) / run.seconds
    memory = "" if run.peak_memory_gib is None else f"{run.peak_memory_gib:5.1f} GiB"
    rate = run.train_clips / run.seconds
    print(
        f"{run.name:24s} {run.precision:5s} {run.seconds:8.2f} s  {rate:7.1f} clips/s  {ratio:6.2f} x  {memory}  "
        f"{run.metrics}  {run.extra}",
        flush=True,
    )


class Benchmark:
    """The ways to train on one dataset, from the same first weights."""

    def __init__(self, checkpoint: Checkpoint, dataset: VideoDataset, recipe: Recipe, device: torch.device):
        self.dataset, self.recipe, self.device = dataset, recipe, device
        self.model, self.processor = common.load(checkpoint, dataset.labels, device)
        self.preprocessing = checkpoint.preprocessing
        self.head = Head.of(self.model)
        self.first = {name: value.clone() for name, value in self.head.state_dict().items()}
        self.train_clips = len(dataset.splits["train"]) * recipe.epochs

    def runs(self, options: argparse.Namespace) -> Iterator[Run]:
        yield self.card("card's loop", card_loop.tutorial_reader)
        yield self.card("card's loop, our reader", our_reader)
        for precision in options.precision:
            recipe = replace(self.recipe, precision=precision)
            with matmul_precision(precision):
                yield from self._cold_and_warm(recipe)
                yield self._trials(recipe, options.trials, options.measured_trials or options.trials)
                yield self._encode(recipe, options.encoding_seconds)

    def card(self, name: str, reader: card_loop.Reader) -> Run:
        self.head.load_state_dict(self.first)
        samples = self.dataset.splits["train"]
        labels = self.dataset.label_ids("train")
        epochs = []
        for epoch in range(1, self.recipe.epochs + 1):
            order = training_order(samples, self.recipe, epoch, order=self.dataset.order)
            clips = training_clips([samples[index] for index in order], self.recipe, epoch)
            epochs.append(self._card_clips(clips, [labels[index] for index in order], reader))
        sets = {
            name: self._card_clips(evaluation_clips(self.dataset.splits[name]), self.dataset.label_ids(name), reader)
            for name in ("val", "test")
        }
        metrics: dict[str, object] = {}

        def train() -> None:
            metrics.update(
                card_loop.train(
                    self.model,
                    epochs=epochs,
                    val=sets["val"],
                    test=sets["test"],
                    learning_rate=self.recipe.learning_rate,
                    accumulation=self.recipe.gradient_accumulation_steps,
                )
            )

        common.reset_peak_memory()
        with matmul_precision("fp32"):
            took = common.seconds(train)
        return Run(name, "fp32", took, self.train_clips, common.peak_memory(), metrics)

    def _card_clips(self, clips: Sequence[Clip], labels: Sequence[int], reader: card_loop.Reader) -> card_loop.Clips:
        return card_loop.Clips(
            [card_clip(clip, label) for clip, label in zip(clips, labels, strict=True)],
            self.processor,
            num_frames=self.model.config.frames_per_clip,
            stride=self.recipe.stride,
            reader=reader,
        )

    def _cold_and_warm(self, recipe: Recipe) -> Iterator[Run]:
        with temporary_cache():
            compiling = common.seconds(lambda: self._train(replace(recipe, epochs=1)))
        extra: dict[str, object] = {"first_epoch_with_compiling_s": compiling}
        with temporary_cache():
            for name in ("ours, empty store", "ours, full store"):
                common.reset_peak_memory()
                metrics: dict[str, object] = {}
                took = common.seconds(lambda: metrics.update(self._train(recipe)))  # noqa: B023
                yield Run(name, recipe.precision, took, self.train_clips, common.peak_memory(), metrics, extra)
                extra = {}

    def _source(self, recipe: Recipe, *, again: bool = False) -> FeatureSource:
        """In the form that is fastest in the long run."""
        backbone = LoadedBackbone(self.model, self.preprocessing)
        return FeatureSource(backbone, recipe, form=backbone.forms(recipe.precision)[0], again=again)

    def _train(self, recipe: Recipe) -> dict[str, object]:
        source = self._source(recipe)
        test = EvaluationSet.of_split(source, self.dataset, "test")
        trained = self._fit(recipe, source, [test.clips])
        self.head.load_state_dict(trained.best.weights)
        tested = classification_metrics(*predict(self.head, test, precision=recipe.precision, name="Test"))
        source.finish()
        return {
            "train_loss": [metrics["train_loss"] for metrics in trained.epochs],
            "val_accuracy": [metrics["val_accuracy"] for metrics in trained.epochs],
            "test_accuracy": tested["accuracy"],
        }

    def _fit(self, recipe: Recipe, source: FeatureSource, following: Sequence[Sequence[Clip]] = ()) -> TrainingState:
        """Encodes what is missing, also of readings that follow, and trains."""
        self.head.load_state_dict(self.first)
        train = TrainingSet(source, self.dataset, recipe)
        val = EvaluationSet.of_split(source, self.dataset, "val")
        readings, sure = readings_to_come(train, val, recipe, None)
        for _ in source.encode(source.expect([*readings, *following], sure=sure)):
            pass
        passes = HeadPasses(self.head, precision=recipe.precision, form=head_forms(self.head)[0])
        return fit(passes, train=train, val=val, recipe=recipe, on_epoch=lambda _: None)

    def _trials(self, recipe: Recipe, trials: int, measured: int) -> Run:
        """Trials with other learning rates, the first of which encodes everything: the store is empty at the start.

        Where fewer are run than asked for, the others are taken to last as long as those after the first.
        """
        accuracies, ended = [], []
        common.reset_peak_memory()
        common.synchronize()
        started = time.perf_counter()
        with temporary_cache():
            source = self._source(recipe, again=True)
            for rate in np.geomspace(1e-6, 1e-2, measured):
                trained = self._fit(replace(recipe, learning_rate=float(rate)), source)
                accuracies.append(trained.best.metrics["val_accuracy"])
                source.finish()
                common.synchronize()
                ended.append(time.perf_counter())
        first, others = ended[0] - started, np.diff(ended)
        total = first + (trials - 1) * float(others.mean()) if trials > 1 else first
        metrics: dict[str, object] = {"best_val_accuracy": max(accuracies)}
        extra: dict[str, object] = {"measured": measured, "first_s": first, "others_s": others.tolist()}
        clips = self.train_clips * trials
        return Run(
            f"{trials} trials, empty store", recipe.precision, total, clips, common.peak_memory(), metrics, extra
        )

    def _encode(self, recipe: Recipe, duration: float) -> Run:
        """Files to features and nothing else, in the steady state: with workers running, nothing kept."""
        encoder = self._source(replace(recipe, cache="off")).encoder
        samples = self.dataset.splits["train"]
        encode(encoder, training_clips(samples, recipe, 1))
        pace = common.seconds(lambda: encode(encoder, training_clips(samples, recipe, 2)))
        passes = max(1, round(duration / pace))
        clips = [clip for number in range(passes) for clip in training_clips(samples, recipe, 3 + number)]
        common.reset_peak_memory()
        with common.gpu_load(self.device) as load:
            took = common.seconds(lambda: encode(encoder, clips))
        extra: dict[str, object] = {
            "ms_per_clip": 1e3 * took / len(clips),
            "gpu_busy": float(np.mean(load)) if load else None,
        }
        return Run("encoding from files", recipe.precision, took, len(clips), common.peak_memory(), {}, extra)


def card_clip(clip: Clip, label: int) -> card_loop.Clip:
    """One of our clips as the card's loop names it."""
    view = clip.view
    corner = None if view.has_centred_crop else (view.crop_y, view.crop_x)
    return card_loop.Clip(clip.sample.path, label, view.position, corner)


def our_reader(path: Path, num_frames: int, stride: int, position: float) -> np.ndarray:
    return read_clip(path, num_frames=num_frames, stride=stride, position=position)


def encode(encoder: Encoder, clips: Sequence[Clip]) -> None:
    """Encodes clips and forgets them."""
    for _ in encoder.encode(clips):
        pass


@contextmanager
def temporary_cache() -> Iterator[None]:
    """An empty cache for the block. The benchmarks leave the user's alone."""
    before = os.environ.get("VJEPA_MLFLOW_CACHE")
    folder = tempfile.mkdtemp(prefix="vjepa-mlflow-benchmark-")
    os.environ["VJEPA_MLFLOW_CACHE"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            del os.environ["VJEPA_MLFLOW_CACHE"]
        else:
            os.environ["VJEPA_MLFLOW_CACHE"] = before


if __name__ == "__main__":
    main()
