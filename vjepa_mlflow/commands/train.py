"""The main job: from labelled videos to a logged model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import NamedTuple

from vjepa_mlflow import data, evaluation, features, model, tracking, training
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.temporary import temporary_folder
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.energy import metering
from vjepa_mlflow.runtime.interrupts import gentle_interrupts
from vjepa_mlflow.runtime.ranks import check_alone
from vjepa_mlflow.stages.at_work import at_work
from vjepa_mlflow.stages.checkpoints import Checkpoints
from vjepa_mlflow.stages.encode import encode
from vjepa_mlflow.stages.finish import backbone_beside, finish, test_videos
from vjepa_mlflow.stages.forms import choose_forms
from vjepa_mlflow.stages.pace import cache_pace
from vjepa_mlflow.stages.prepare import Preparation, check_names, log_faults, log_preparation, log_unused, prepare
from vjepa_mlflow.stages.threads import threads_of_run

logger = get_logger(__name__)

AUTO = "auto"
MANY_CLIPS = 1000
"""For whose encoding other GPUs are worth a word."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes:
        run_id: the MLflow run.
        model_uri: the logged model, or the registered version where a name was given.
        best_epoch: whose head the model has, counted from 1.
        metrics: that epoch's, the test set's, and those of the run's time and energy.
    """

    run_id: str
    model_uri: str
    best_epoch: int
    metrics: dict[str, float]


@at_work("train")
def train(recipe: Recipe, *, resume: str = "", save_steps: int = 0) -> TrainingResult:
    """Trains the head of a frozen V-JEPA 2 on labelled videos and logs everything worth keeping to MLflow.

    Args:
        recipe: the values of the run.
        resume: an MLflow run that was stopped and goes on, with the same recipe and data; `auto` for the last such one
            of the experiment, or a new one where there is none; empty for a new one.
        save_steps: optimizer steps from one checkpoint to the next, besides those that are due, see
            `CheckpointClock`; 0 for none.

    Raises:
        UserError: something in the recipe or in what it names is not as expected.
        UndeliveredError: the tracking server has not taken everything.
        KeyboardInterrupt: it was asked to stop; the message says how it goes on.
    """
    check_alone("train")
    if save_steps < 0:
        raise UserError(f"save_steps={save_steps}: expected a whole number of at least 0")
    listing = check_names(recipe)
    with (
        evaluation.painting() as painter,
        _log_of_training(recipe, listing.samples, resume) as log,
        metering(recipe.country) as meter,
        model.matmul_precision(recipe.precision),
        Checkpoints(log, every=save_steps) as checkpoints,
        ExitStack() as beside,
    ):
        log.params(asdict(recipe))
        began = _read_beginning(log, checkpoints) if log.continued else None
        prepared = prepare(recipe, listing, began=began, on_faults=lambda faults: log_faults(log, faults))
        log_unused(log, listing)
        beside.enter_context(threads_of_run(log, thread_count(prepared.clip_shape.values)))
        forms = choose_forms(prepared, recipe, resumed=log.params_before if log.continued else None)
        log_preparation(log, prepared, recipe, forms=forms.params())
        source = features.FeatureSource(prepared.backbone, recipe, form=forms.encoder_form)
        videos = test_videos(prepared, recipe)
        _ = videos.properties  # measured now, so that a bad video does not cost the trained head
        backbone = beside.enter_context(backbone_beside(prepared, recipe))
        snapshot = checkpoints.read()
        if log.continued:
            _print_resumption(snapshot, recipe.epochs)
        sets = _Sets.of(source, prepared.dataset, recipe)
        seconds = _encode(source, sets, recipe, snapshot)
        trained = _fit(
            log, prepared, recipe, sets=sets, head_form=forms.head_form, checkpoints=checkpoints, snapshot=snapshot
        )
        if not log.continued:  # else epochs may be another machine's
            cache_pace(recipe, prepared.dataset, encoded=source.encoded, seconds=seconds, epochs=trained.epochs)
        best = trained.best
        # The test's metrics stand beside those of the best epoch.
        try:
            model_uri, metrics = finish(
                log,
                painter,
                prepared,
                recipe,
                source=source,
                videos=videos,
                best=best,
                backbone=backbone,
                epochs=trained.epochs,
                meter=meter,
                step=best.epoch,
            )
        except tracking.UndeliveredError:  # and the model is kept, so that there is nothing to go on with
            checkpoints.forget()
            raise
        source.finish()  # now, so that a full disk does not cost the trained head
        checkpoints.forget()
        return TrainingResult(log.run_id, model_uri, best.epoch, {**best.metrics, **metrics})


@contextmanager
def _log_of_training(recipe: Recipe, samples: Sequence[data.Sample], resume: str) -> Iterator[tracking.RunLog]:
    """The log of a new run, or of the one that goes on."""
    definition = _define(recipe, samples)
    job = tracking.Job.of("train", definition, asdict(recipe))
    run_id = _find_run(definition, resume) if resume else None
    with (
        tracking.resumed_log(run_id, job) if run_id else tracking.run_log(job) as log,
        tracking.resumable(log, definition),
    ):
        if log.continued:
            logger.info(f"Run {log.run_id} goes on")
        try:
            yield log
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(
                f"{str(interrupt) or 'interrupted'}: the same command with --resume {log.run_id} (mlflow run: "
                f"-P resume={log.run_id}) goes on"
            ) from interrupt


def _find_run(definition: Mapping[str, str], resume: str) -> str | None:
    tracking.wake_tracking()
    run_id = tracking.find_unfinished(definition) if resume == AUTO else resume
    if run_id is None:
        logger.info("No run of this recipe and data was stopped: a new one begins (resume=auto)")
        return None
    tracking.check_unfinished(run_id, definition)
    return run_id


def _define(recipe: Recipe, samples: Sequence[data.Sample]) -> dict[str, str]:
    """What must be the same where a run goes on."""
    return {"data": data.describe_samples(samples), **recipe.training_fields()}


def _read_beginning(log: tracking.RunLog, checkpoints: Checkpoints) -> data.Beginning | None:
    """What a run that goes on began with; of one that was stopped before that, nothing.

    Raises:
        UserError: it cannot be read any more.
    """
    with suppress(tracking.UndeliveredError):  # which may yet be delivered, and tells at the end
        log.deliver()  # what an earlier process left
    began = tracking.read_beginning(log.run_id)
    if began is None and checkpoints.exist():
        raise UserError(
            f"resume={log.run_id}: it has a checkpoint, and no split.csv and labels.json that say of which videos: "
            f"expected them as its artifacts"
        )
    return began


class _Sets(NamedTuple):
    """The three sets, as a training reads them."""

    train: features.TrainingSet
    val: features.EvaluationSet
    test: features.EvaluationSet

    @classmethod
    def of(cls, source: features.FeatureSource, dataset: data.VideoDataset, recipe: Recipe) -> _Sets:
        val, test = (features.EvaluationSet.of_split(source, dataset, split) for split in ("val", "test"))
        return cls(features.TrainingSet(source, dataset, recipe), val, test)


def _encode(source: features.FeatureSource, sets: _Sets, recipe: Recipe, snapshot: training.Snapshot | None) -> float:
    """Encodes what will surely be read, as far as there is room for it. Returns the seconds that took."""
    started = time.perf_counter()
    readings, sure = training.readings_to_come(sets.train, sets.val, recipe, snapshot)
    missing = source.expect([*readings, sets.test.clips], sure=sure)
    _tell_of_other_gpus(source, len(missing))
    encode(source, missing)
    seconds = time.perf_counter() - started
    if count := source.encoded:
        logger.info(f"Encoded {count} clips in {seconds:.1f} s, {count / seconds:.1f} clips/s")
    return seconds


def _tell_of_other_gpus(source: features.FeatureSource, missing: int) -> None:
    import torch

    count = torch.cuda.device_count() if source.encoder.device.type == "cuda" else 0
    if count > 1 and missing >= MANY_CLIPS:
        logger.info(
            f"Encoding {missing} clips on one of {count} GPUs; with the same options, "
            f"`torchrun --nproc-per-node {count} -m vjepa_mlflow extract` encodes them on all"
        )


def _fit(
    log: tracking.RunLog,
    prepared: Preparation,
    recipe: Recipe,
    *,
    sets: _Sets,
    head_form: str,
    checkpoints: Checkpoints,
    snapshot: training.Snapshot | None,
) -> training.TrainingState:
    """Trains from the last checkpoint, or from the start, and stops between two steps when asked to."""
    for step, metrics in enumerate(snapshot.epochs if snapshot else [], start=1):
        log.metrics(metrics, step=step)  # the run may have been stopped just before
    with gentle_interrupts("Stopping after this step; once more stops at once") as stopping:

        def on_epoch(state: training.TrainingState) -> None:
            log.metrics(state.epochs[-1], step=len(state.epochs))
            _print_epoch(len(state.epochs), recipe.epochs, state.epochs[-1])
            on_step(state)

        def on_step(state: training.TrainingState) -> None:
            checkpoints.offer(state)
            if stopping():
                checkpoints.save(state)
                checkpoints.finish_writing()
                raise KeyboardInterrupt(
                    f"interrupted after step {state.steps}, with {len(state.epochs)} of {recipe.epochs} epochs done"
                )

        try:
            trained = training.fit(
                training.HeadPasses(prepared.head, precision=recipe.precision, form=head_form),
                train=sets.train,
                val=sets.val,
                recipe=recipe,
                on_epoch=on_epoch,
                on_step=on_step,
                resume=snapshot,
            )
        except training.DivergedError as error:
            checkpoints.abandon()  # there is nothing to go on with
            raise _keep_best(log, error) from error
    _print_waits(checkpoints.waits)
    return trained


def _keep_best(log: tracking.RunLog, error: training.DivergedError) -> UserError:
    """Logs the best head of a training that led nowhere in the end, and says so."""
    if not error.state.epochs:
        return error
    with temporary_folder() as folder:
        error.state.save_best(folder / tracking.HEAD_FILE)
        log.file(folder / tracking.HEAD_FILE)
    return UserError(
        f"{error}; the best head so far, of epoch {error.state.best.epoch}, is the artifact {tracking.HEAD_FILE}"
    )


def _print_resumption(resume: training.Snapshot | None, epochs: int) -> None:
    if resume is None:
        logger.info("No step of its training was kept: it begins again")
    else:
        done = f"{len(resume.epochs)} of {epochs} epochs done"
        logger.info(f"Its training goes on after step {resume.steps}, with {done}")


def _print_waits(waits: Sequence[float]) -> None:
    if waits:
        most = f"{max(waits):.2f} s at most at once"
        logger.info(f"Checkpoints: training waited {sum(waits):.2f} s for {len(waits)}, {most}")


def _print_epoch(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
    logger.info(
        f"Epoch {epoch}/{epochs}  "
        f"train loss {metrics['train_loss']:.4f}  accuracy {metrics['train_accuracy']:.3f}  |  "
        f"validation loss {metrics['val_loss']:.4f}  accuracy {metrics['val_accuracy']:.3f}  |  "
        f"{metrics['clips_per_second']:.1f} clips/s"
    )
