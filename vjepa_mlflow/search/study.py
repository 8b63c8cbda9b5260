"""A study in a database: opened, recognised and shared."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from vjepa_mlflow.data import Sample, describe_samples
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.internals.optuna_private import SCHEMA_ERRORS
from vjepa_mlflow.recipe import Recipe, differences
from vjepa_mlflow.search.method import SearchMethod
from vjepa_mlflow.search.plan import SweepPlan
from vjepa_mlflow.search.queue import TrialQueue
from vjepa_mlflow.search.quiet import quiet_optuna
from vjepa_mlflow.search.storage import RUN, open_storage
from vjepa_mlflow.search.trials import SweepTrial
from vjepa_mlflow.secrets import without_secrets
from vjepa_mlflow.training import rank

DEFINITION = "definition"
METRICS = "metrics"
"""The attribute of a completed trial: its best epoch's metrics."""

NEW_IN_DEFINITIONS = ("sampler", "pruner")
"""What the definitions of older versions do not say."""

SECONDS_FOR_A_RUN = 20
"""How long the process that created a study may take to start its MLflow run."""


def default_storage(tracking_uri: str) -> str:
    """The SQLite database beside MLflow's, or in the working directory where MLflow's is no SQLite file."""
    prefix = "sqlite:///"
    folder = Path(tracking_uri.removeprefix(prefix)).parent if tracking_uri.startswith(prefix) else Path()
    return f"{prefix}{(folder / 'optuna.db').absolute()}"


class SharedStudy:
    """A study that any number of processes work on.

    Args:
        url: of an Optuna RDB storage, such as `sqlite:///optuna.db` or `postgresql://user@host/database`.
        name: of the study.
        tracking_uri: MLflow's, whose database is to be another one.
        tells: whether this process says that it waits for the storage.

    Raises:
        UserError: the storage does not answer, or it is MLflow's.
    """

    def __init__(self, url: str, name: str, *, tracking_uri: str = "", tells: bool = True):
        self.url, self.name = url, name
        self._run_id: str | None = None
        try:
            self._storage = open_storage(url, name, tracking_uri=tracking_uri, tells=tells)
        # A database that does not answer, no driver of it, or another version of Optuna's tables.
        except (StorageInternalError, SQLAlchemyError, ImportError, *SCHEMA_ERRORS) as error:
            raise UserError(
                f"{self._place}: it does not answer ({_reason(error)}): expected an Optuna storage URL, such as "
                f"sqlite:///optuna.db or postgresql://user@host/database"
            ) from error

    @property
    def _place(self) -> str:
        return f"storage={without_secrets(self.url)}"

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Says in one line what goes wrong with the storage inside the block, in which Optuna says little."""
        try:
            with quiet_optuna():
                yield
        except (StorageInternalError, SQLAlchemyError) as error:
            self._storage.check_file()
            raise UserError(
                f"{self._place}: it refuses ({_reason(error)}): expected a database that is whole and can be written; "
                f"the same command goes on"
            ) from error

    def hold(self, run_id: str) -> None:
        """From here on the study must be the one that this MLflow run holds: whatever is written of it is refused else.

        Raises:
            UserError: it was deleted, or made anew.
        """
        self._run_id = run_id
        self._storage.hold(run_id)

    def create(self, plan: SweepPlan, definition: Mapping[str, str]) -> bool:
        """Makes the study, or recognises it. Returns whether it is new.

        Raises:
            UserError: there is one of this name with another definition.
        """
        try:
            study = optuna.create_study(study_name=self.name, storage=self._storage, direction=plan.direction)
        except DuplicatedStudyError:
            self._recognise(plan, definition)
            return False
        study.set_user_attr(DEFINITION, dict(definition))
        return True

    def wait_for_run(self) -> str | None:
        """The MLflow run that holds the study, after giving the process that creates it the time to start one."""
        deadline = time.monotonic() + SECONDS_FOR_A_RUN
        while (run_id := self._load().user_attrs.get(RUN)) is None and time.monotonic() < deadline:
            time.sleep(0.5)
        return run_id

    def set_run_id(self, run_id: str) -> None:
        self._load().set_user_attr(RUN, run_id)

    def queue(
        self, plan: SweepPlan, recipe: Recipe, *, count: int, on_interrupted: Callable[[int], None]
    ) -> TrialQueue:
        """The study's trials, the first of which tries the recipe's own values."""
        method = SearchMethod(
            first=plan.space.baseline(recipe),
            sampler=lambda trial: plan.make_sampler(seed=recipe.seed, trial=trial),
            pruner=plan.make_pruner(),
        )
        return TrialQueue(self._storage, self.name, count=count, method=method, on_interrupted=on_interrupted)

    def once(self, purpose: str) -> TrialQueue:
        """A piece of work that one of all processes does, and another one where that dies: a study of one trial.

        It has the run in its name: one that is begun again under the name of a deleted one has not done it yet.
        """
        name = f"{self.name}, run {self._run_id}: {purpose}"
        optuna.create_study(study_name=name, storage=self._storage, load_if_exists=True)
        return TrialQueue(self._storage, name, count=1, method=SearchMethod())

    def agree(self, subject: str, value: str) -> None:
        """Notes what this process works with, and refuses to go on where others work with something else.

        Every value is an attribute of its own, so that of two processes that note theirs at the same time at least
        one sees both.

        Raises:
            UserError: says which subject.
        """
        prefix = f"{subject}: "

        def read_others() -> list[str]:
            names = [name for name, holds in self._load().user_attrs.items() if holds and name.startswith(prefix)]
            return sorted({name.removeprefix(prefix) for name in names} - {value})

        others = read_others()
        if not others:
            self._load().set_user_attr(prefix + value, True)
            if others := read_others():
                self._load().set_user_attr(prefix + value, False)  # so that nobody meets it later
        for other in others:
            raise UserError(
                f"study={self.name}: its trials were made with the {subject} {other}; here it is {value}: expected the "
                f"same, or another name (--study)"
            )

    def _recognise(self, plan: SweepPlan, definition: Mapping[str, str]) -> None:
        study = self._load()
        stored = study.user_attrs.get(DEFINITION)
        if stored is None:
            if study.get_trials(deepcopy=False) or [one.name for one in study.directions] != [plan.direction.upper()]:
                raise UserError(
                    f"study={self.name}: there is one in {without_secrets(self.url)} that no sweep has made: expected "
                    f"a sweep's, or another name (--study)"
                )
            study.set_user_attr(DEFINITION, dict(definition))  # its creator was killed just then
            return
        missing = {name: definition[name] for name in NEW_IN_DEFINITIONS if name in definition}
        for name, before, now in differences({**missing, **stored}, definition):
            raise UserError(
                f"study={self.name}: there is one in {without_secrets(self.url)} with {name}: {before}; here it is "
                f"{now}: expected the same, or another name (--study)"
            )

    def _load(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self._storage)


def define(plan: SweepPlan, recipe: Recipe, samples: Sequence[Sample]) -> dict[str, str]:
    """What must be the same wherever a study goes on, in words: its space, its other values and its data."""
    searched = {dimension.field: f"{dimension}, from {getattr(recipe, dimension.field)}" for dimension in plan.space}
    fixed = {name: value for name, value in recipe.training_fields().items() if name not in searched}
    algorithms = {"sampler": str(plan.sampler), "pruner": str(plan.pruner)}
    return {"metric": plan.metric, "data": describe_samples(samples), **algorithms, **fixed, **searched}


def best_trial(trials: Sequence[SweepTrial], metric: str) -> SweepTrial | None:
    """The completed trial whose best epoch ranks highest; of equals, the first one."""
    completed = [trial for trial in trials if trial.state == "COMPLETE"]
    return max(completed, key=lambda trial: rank(trial.frozen.user_attrs[METRICS], metric), default=None)


def _reason(error: BaseException) -> str:
    return one_line(error.__cause__ or error)
