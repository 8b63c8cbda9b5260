"""What the tiny checkpoint's pretraining brings, beside the same architecture with random weights.

    python -m benchmarks.tiny --data demo FOLDER --json tiny.json

The recipe on the demo, with frames in their order and, in the test, shuffled; and on every data set a linear probe:
scikit-learn's logistic regression on the features' mean over all tokens, its accuracy by cross-validation.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import torch
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from benchmarks import common
from vjepa_mlflow import Recipe, flavor, train
from vjepa_mlflow.data import DEMO, Sample, VideoDataset
from vjepa_mlflow.features import Encoder, evaluation_clips
from vjepa_mlflow.model import (
    CENTRED,
    TINY_FOLDER,
    Checkpoint,
    LoadedBackbone,
    choose_device,
    from_folder,
    label_names,
    load_processor,
    load_trained,
    preprocess,
)
from vjepa_mlflow.video import Sampling, read_clip

STRIDE = Recipe().stride


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[DEMO])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json")
    options = parser.parse_args()

    seeds = range(options.seeds)
    sets = [data if data == DEMO else str(Path(data).resolve()) for data in options.data]
    with tempfile.TemporaryDirectory() as folder, own_tracking(Path(folder)):
        pretrained = from_folder("pretrained", TINY_FOLDER)
        random = [random_checkpoint(Path(folder) / f"random-{seed}", seed=seed) for seed in seeds]
        datasets = {data: read_dataset(data, pretrained) for data in dict.fromkeys([DEMO, *sets])}
        runs = [run(checkpoint, datasets[DEMO], seed=seed) for checkpoint in (pretrained, random[0]) for seed in seeds]
        probes = [probe(checkpoint, data, datasets[data]) for data in sets for checkpoint in (pretrained, *random)]
    results = {"machine": common.machine(choose_device("cpu")), "runs": runs, "probes": probes}
    common.write_json(options.json, results)


@contextmanager
def own_tracking(folder: Path) -> Iterator[None]:
    """An MLflow store in a folder, which is the working directory as well, for MLflow writes artifacts there."""
    before = Path.cwd()
    os.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    try:
        yield
    finally:
        os.chdir(before)


def random_checkpoint(folder: Path, *, seed: int) -> Checkpoint:
    torch.manual_seed(seed)
    VJEPA2ForVideoClassification(VJEPA2Config.from_pretrained(TINY_FOLDER)).save_pretrained(folder)
    load_processor(from_folder("pretrained", TINY_FOLDER)).save_pretrained(folder)
    return from_folder("random", folder)


def read_dataset(data: str, checkpoint: Checkpoint) -> VideoDataset:
    return common.read_dataset(data, num_frames=checkpoint.frames_per_clip, stride=STRIDE, limit=None)


def run(checkpoint: Checkpoint, demo: VideoDataset, *, seed: int) -> dict[str, object]:
    """Runs the recipe with its own values, on the demo; features stay out of the user's cache."""
    result = train(Recipe(model=str(checkpoint.folder), seed=seed, device="cpu", cache="memory"))
    history = MlflowClient().get_metric_history(result.run_id, "val_accuracy")
    measured = {
        "weights": checkpoint.name,
        "seed": seed,
        "val_accuracy": [point.value for point in history],
        "test_accuracy": result.metrics["test_accuracy"],
        "shuffled_test_accuracy": shuffled_accuracy(result.model_uri, demo.splits["test"]),
    }
    print(measured, flush=True)
    return measured


def shuffled_accuracy(model_uri: str, samples: list[Sample]) -> float:
    """Accuracy on videos whose frames are shuffled before the model sees them."""
    fetched = flavor.fetch_model(model_uri)
    model, preprocessing = flavor.load_fetched(fetched), fetched.preprocessing()
    names = label_names(model.config)
    torch.manual_seed(0)
    hits = 0
    for sample in samples:
        frames = read_clip(sample.path, num_frames=model.config.frames_per_clip, stride=STRIDE)
        shuffled = torch.from_numpy(frames)[torch.randperm(len(frames))]
        with torch.no_grad():
            logits = model(preprocess(preprocessing, [shuffled], views=[CENTRED], device=torch.device("cpu"))).logits
        hits += names[int(logits.argmax())] == sample.label
    return hits / len(samples)


def probe(checkpoint: Checkpoint, data: str, dataset: VideoDataset) -> dict[str, object]:
    """Fits a linear classifier to the mean-pooled features of all videos of a data set."""
    model = load_trained(checkpoint.folder)
    samples = [sample for split in dataset.splits.values() for sample in split]
    sampling = Sampling(model.config.frames_per_clip, STRIDE)
    backbone = LoadedBackbone(model, checkpoint.preprocessing)
    encoder = Encoder(backbone, form=backbone.forms("fp32")[0], sampling=sampling, precision="fp32")
    clips = evaluation_clips(samples)
    features = dict(encoder.encode(clips))
    pooled = torch.stack([features[clip].mean(0) for clip in clips])
    measured = {
        "data": Path(data).name,
        "videos": len(samples),
        "weights": checkpoint.name,
        "accuracy": linear_accuracy(pooled, [sample.label for sample in samples]),
    }
    print(measured, flush=True)
    return measured


def linear_accuracy(features: torch.Tensor, labels: list[str]) -> float:
    """Cross-validated accuracy of logistic regression on features of shape (clips, hidden size)."""
    scores = cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        features.numpy(),
        labels,
        cv=RepeatedStratifiedKFold(n_splits=5, n_repeats=4, random_state=0),
    )
    return float(scores.mean())


if __name__ == "__main__":
    main()
