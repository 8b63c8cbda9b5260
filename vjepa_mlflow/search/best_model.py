"""The best trial's head, tested and logged as a model: by one of all processes that share the study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

from vjepa_mlflow import evaluation, model, search, tracking, training
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.temporary import temporary_folder
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.energy import Meter
from vjepa_mlflow.search.setups import TrialSetups
from vjepa_mlflow.search.study_run import StudyRun
from vjepa_mlflow.stages.assess import assess
from vjepa_mlflow.stages.encode import test_set
from vjepa_mlflow.stages.fit import TrainedHead
from vjepa_mlflow.stages.publish import backbone_beside, publish
from vjepa_mlflow.stages.test import test

PAUSE = 0.5
"""Seconds from one look to the next, while another process does it."""


class BestModel:
    """Tests and logs the best head of a study, with a backbone that is written while trials run.

    Args:
        run: of the study.
        setups: in which trials were tried.
        painter: draws the report's figures.
        meter: of the run's time and energy.
    """

    def __init__(self, run: StudyRun, setups: TrialSetups, painter: evaluation.Painter, meter: Meter):
        self._run, self._setups, self._painter, self._meter = run, setups, painter, meter
        self._beside = ExitStack()
        self._backbones: dict[tuple[str, int], model.WriteBackbone] = {}

    def __enter__(self) -> BestModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._beside.__exit__(kind, error, traceback)

    def backbone(self, recipe: Recipe) -> model.WriteBackbone:
        """What a head is logged with; from the first call on it is written while something else is done."""
        made_for = recipe.model, recipe.seed
        if made_for not in self._backbones:
            prepared = self._setups.setup(recipe).prepared
            self._backbones[made_for] = self._beside.enter_context(backbone_beside(prepared))
        return self._backbones[made_for]

    def log(self, trials: Sequence[search.SweepTrial], metric: str, recipe: Recipe) -> Mapping[str, Any]:
        """Has one of the processes that share the study test and log the best head, and returns what came of it.

        Args:
            trials: of the study.
            metric: by which they are compared.
            recipe: the values of the fields that are not searched.

        Raises:
            UserError: no trial was completed.
        """
        best = search.best_trial(trials, metric)
        if best is None:
            study = self._run.shared.name
            raise UserError(f"study={study}: none of its {len(trials)} trials was completed: see trials.csv")
        registered = f" as {recipe.registered_model_name}" if recipe.registered_model_name else ""
        task = self._run.shared.once(f"best of {len(trials)}{registered}")
        while not task.is_done():
            running = task.take_next()
            if running is None:
                time.sleep(PAUSE)
                continue
            with suppress(search.TakenOverError), task.working_on(running):
                metrics, model_uri = self._test_and_log(best, replace(recipe, **best.frozen.params), len(trials))
                attributes = {"model_uri": model_uri, "best_trial": best.number, "metrics": metrics}
                task.complete(running, metrics["test_accuracy"], attributes)
        return task.trials()[0].frozen.user_attrs

    def _test_and_log(self, trial: search.SweepTrial, recipe: Recipe, trials: int) -> tuple[dict[str, float], str]:
        log = self._run.log
        setup = self._setups.setup(recipe)
        backbone = self.backbone(recipe)
        setup.passes.forget()  # whose memory the test has
        with model.cpu_threads(setup.threads), model.matmul_precision(recipe.precision):
            best, epochs = self._fetch_head(trial)
            log.tags(
                {"best_trial": trial.number, **{f"best_{name}": value for name, value in trial.frozen.params.items()}}
            )
            log.metrics({**best.metrics, search.BEST_EPOCH: best.epoch}, step=trials)
            prepared = replace(setup.prepared, recipe=recipe)
            videos = test_set(prepared)
            trained = TrainedHead(prepared, setup.source, videos, best, epochs, step=trials, trials=trials)
            assessment = assess(log, self._painter, test(log, trained))
            usage = self._meter.read()
            model_uri = publish(log, assessment, backbone=backbone, usage=usage)
        return {**best.metrics, **assessment.metrics, **usage.metrics()}, model_uri

    def _fetch_head(self, trial: search.SweepTrial) -> tuple[training.BestHead, list[dict[str, float]]]:
        run_id = tracking.trial_run_id(self._run.log.run_id, trial.number)
        with temporary_folder() as folder:
            return training.load_best(tracking.download(run_id, tracking.HEAD_FILE, folder))
