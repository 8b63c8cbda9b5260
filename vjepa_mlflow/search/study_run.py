"""A study with the MLflow run that holds it: both new, or both gone on with."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from vjepa_mlflow import data, search, tracking
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.secrets import has_password
from vjepa_mlflow.stages.prepare import Resumed

logger = get_logger(__name__)


@dataclass(frozen=True)
class StudyRun:
    """What a sweep logs to, and takes its trials from.

    Attributes:
        log: of the run that holds the study.
        shared: the study.
        resumed: what the run has from before, where the study goes on; None for a new one.
    """

    log: tracking.RunLog
    shared: search.SharedStudy
    resumed: Resumed | None


@contextmanager
def study_run(
    file: Path, plan: search.SweepPlan, recipe: Recipe, samples: list[data.Sample], *, study: str, storage: str
) -> Iterator[StudyRun]:
    """Makes a study and its run, or goes on with them; the run ends with the block.

    Args:
        file: the sweep's, which the run keeps.
        plan: what it says.
        recipe: the values of the first trial.
        samples: the videos.
        study: its name.
        storage: Optuna's database URL; empty for an SQLite file beside MLflow's.

    Raises:
        UserError: the storage or the tracking server does not answer, or the study is another one.
        KeyboardInterrupt: the block was asked to stop; the message says how it goes on.
    """
    import mlflow  # no sooner, so that mistakes are told at once

    tracking_uri = mlflow.get_tracking_uri()
    url = storage or search.default_storage(tracking_uri)
    shared = search.SharedStudy(url, study, tracking_uri=tracking_uri)
    tracking.wake_tracking()
    _warn_of_password(storage)
    with shared.answering():
        is_new = shared.create(plan, search.define(plan, recipe, samples))
        run_id = None if is_new else shared.wait_for_run()
        if run_id:
            _check_sampler(plan, study, tracking.study_params(run_id, study))
        job = tracking.Job("sweep", uuid.uuid4().hex, file.name, file.read_text(encoding="utf-8"))
        with tracking.resumed_log(run_id, job) if run_id else tracking.run_log(job, name=study) as log, _going_on():
            if run_id is None:
                shared.set_run_id(log.run_id)
            shared.hold(log.run_id)
            resumed = None if is_new else Resumed(dict(log.params_before), tracking.read_beginning(log.run_id))
            _check_order(plan, resumed)
            _log_plan(log, study, plan, recipe)
            yield StudyRun(log, shared, resumed)


def _warn_of_password(storage: str) -> None:
    """Says that `mlflow run` has kept a password, as it does with all parameters, before we could do anything."""
    if os.environ.get("MLFLOW_RUN_ID") and has_password(storage):
        logger.warning(
            "storage holds a password, which mlflow run prints and keeps as a parameter of the run: a storage URL "
            "needs none where PGPASSWORD or ~/.pgpass has it, and vjepa-mlflow sweep by itself keeps none"
        )


@contextmanager
def _going_on() -> Iterator[None]:
    """Has an interrupt of the block say that nothing is lost, where it says nothing else."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(str(interrupt) or "interrupted: the same command goes on") from interrupt


def _check_sampler(plan: search.SweepPlan, study: str, params: Mapping[str, str]) -> None:
    """Refuses another sampler for a study of which only its run says which one it has."""
    before = params.get("sampler", plan.sampler.name)
    if before != plan.sampler.name:
        raise UserError(
            f"study={study}: its run has sampler: {before}; here it is {plan.sampler.name}: expected the same, or "
            f"another name (--study)"
        )


def _check_order(plan: search.SweepPlan, resumed: Resumed | None) -> None:
    """Refuses a study that was begun when not all of its trials had the same splits."""
    changed = [name for name in ("seed", "model") if name in plan.space.fields]
    beginning = resumed and resumed.beginning
    if beginning and beginning.order != data.ORDER and changed:
        raise UserError(
            f"run {beginning.run_id}: its study searches {' and '.join(changed)}, for each value of which the version "
            f"that began it drew other splits: expected a new one (--study)"
        )


def _log_plan(log: tracking.RunLog, study: str, plan: search.SweepPlan, recipe: Recipe) -> None:
    fixed = {name: value for name, value in asdict(recipe).items() if name not in plan.space.fields}
    searched = {
        f"search_{dimension.field}": f"{dimension}, from {getattr(recipe, dimension.field)}" for dimension in plan.space
    }
    baseline = {"baseline_model": recipe.model} if "model" in plan.space.fields else {}
    log.params({**fixed, **baseline, **searched, "metric": plan.metric, "study": study, "sampler": plan.sampler.name})
