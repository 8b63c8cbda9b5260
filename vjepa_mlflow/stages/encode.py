"""Clips to features that a training will read, as far as there is room for them, before its first step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vjepa_mlflow import features, training
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.stages.encode_clips import encode_clips
from vjepa_mlflow.stages.labelled_set import LabelledSet
from vjepa_mlflow.stages.prepare import Preparation

logger = get_logger(__name__)

MANY_CLIPS = 1000
"""For whose encoding other GPUs are worth a word."""


@dataclass(frozen=True)
class EncodedSets:
    """The three sets of a training, as features.

    Attributes:
        prepared: what is trained.
        source: where features come from: those that found no room are encoded when they are read.
        train: the training set.
        val: the validation set.
        test_videos: the test set, which is measured already.
        seconds: that encoding took.
    """

    prepared: Preparation
    source: features.FeatureSource
    train: features.TrainingSet
    val: features.EvaluationSet
    test_videos: LabelledSet
    seconds: float


@contextmanager
def encode(prepared: Preparation, snapshot: training.Snapshot | None) -> Iterator[EncodedSets]:
    """Encodes what a training will surely read, as far as there is room for it; the block has the rest encoded.

    Args:
        prepared: what is trained.
        snapshot: where the training goes on; None where it begins.

    Raises:
        UserError: a video cannot be decoded any more, or the store's disk is full.
    """
    recipe, dataset = prepared.recipe, prepared.dataset
    test_videos = test_set(prepared)
    _ = test_videos.properties  # measured now, so that a bad video does not cost the trained head
    with features.FeatureSource(prepared.backbone, recipe, form=prepared.forms.encoder_form) as source:
        train = features.TrainingSet(source, dataset, recipe)
        val, test = (features.EvaluationSet.of_split(source, dataset, split) for split in ("val", "test"))
        started = time.perf_counter()
        readings, sure = training.readings_to_come(train, val, recipe, snapshot)
        missing = source.expect([*readings, test.clips], sure=sure)
        _tell_of_other_gpus(source, len(missing))
        encode_clips(source, missing)
        seconds = time.perf_counter() - started
        if count := source.encoded:
            logger.info(f"Encoded {count} clips in {seconds:.1f} s, {count / seconds:.1f} clips/s")
        yield EncodedSets(prepared, source, train, val, test_videos, seconds)


def test_set(prepared: Preparation) -> LabelledSet:
    """The videos that a trained head is tested on."""
    return LabelledSet(
        data=prepared.recipe.data,
        split="test",
        samples=prepared.dataset.splits["test"],
        labels=prepared.dataset.labels,
        num_clips=1,
        sampling=prepared.sampling,
        cache=prepared.recipe.cache,
    )


def _tell_of_other_gpus(source: features.FeatureSource, missing: int) -> None:
    import torch

    count = torch.cuda.device_count() if source.encoder.device.type == "cuda" else 0
    if count > 1 and missing >= MANY_CLIPS:
        logger.info(
            f"Encoding {missing} clips on one of {count} GPUs; with the same options, "
            f"`torchrun --nproc-per-node {count} -m vjepa_mlflow extract` encodes them on all"
        )
