"""Filling the feature store and nothing else, alone or as one of several processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vjepa_mlflow import features, model
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.ranks import launched_share
from vjepa_mlflow.stages.at_work import at_work
from vjepa_mlflow.stages.encode_clips import encode_clips
from vjepa_mlflow.stages.names import check_names
from vjepa_mlflow.stages.prepare import prepare


@dataclass(frozen=True)
class ExtractionResult:
    """What an extraction came to.

    Attributes:
        clips: this process's share.
        present: those of it that were in the store already.
        encoded: those that are there now; with `present`, all of them unless the budget was too small.
        clips_per_second: how fast, once at work; None where there was too little to tell.
    """

    clips: int
    present: int
    encoded: int
    clips_per_second: float | None


@at_work("extract")
def extract(recipe: Recipe) -> ExtractionResult:
    """Encodes every clip that a training run of this recipe reads, and keeps its features in the store.

    What is there already is not encoded again, so an extraction that was interrupted goes on where it stopped. Under
    `torchrun` each process encodes its share; they meet in the store alone.

    Raises:
        UserError: something in the recipe or in what it names is not as expected, or the disk is full.
    """
    share = launched_share()
    prepared = prepare(recipe, check_names(recipe), share=share)
    with (
        model.cpu_threads(thread_count(prepared.clip_shape.values)),
        model.matmul_precision(recipe.precision),
        _telling_that_nothing_is_lost(),
        features.FeatureSource(prepared.backbone, recipe, form=prepared.forms.encoder_form) as source,
    ):
        clips = list(share.of(list(features.all_clips(prepared.dataset, recipe))))
        missing = source.missing(clips)
        times = encode_clips(source, source.affordable(missing))
        source.finish()
        source.cache.check_kept()
    return ExtractionResult(
        clips=len(clips),
        present=len(clips) - len(missing),
        encoded=len(times),
        clips_per_second=_pace(times, source.encoder.batch_size),
    )


@contextmanager
def _telling_that_nothing_is_lost() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("interrupted: what was encoded is kept; the same command goes on") from interrupt


def _pace(times: list[float], batch_size: int) -> float | None:
    """Clips a second after the first two batches, which wait for workers to start and for compilation."""
    steady = times[2 * batch_size :]
    return (len(steady) - 1) / (steady[-1] - steady[0]) if len(steady) > 1 else None
