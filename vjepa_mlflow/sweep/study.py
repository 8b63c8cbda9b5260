"""A study in a database: opened, recognised and shared."""

import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, StorageInternalError
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from vjepa_mlflow.data import Sample, describe_samples
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.recipe import Recipe, differences
from vjepa_mlflow.secrets import without_secrets
from vjepa_mlflow.sweep.plan import SweepPlan
from vjepa_mlflow.sweep.queue import GRACE_PERIOD, HEARTBEAT_INTERVAL, TrialQueue
from vjepa_mlflow.sweep.slots import Slot
from vjepa_mlflow.training import rank

DEFINITION = "definition"
RUN = "mlflow_run_id"
METRICS = "metrics"
"""The attribute of a completed trial: its best epoch's metrics."""

SECONDS_FOR_A_RUN = 20
"""How long the process that created a study may take to start its MLflow run."""

ATTEMPTS = 3
"""To open a storage."""

HALF_MADE = (RuntimeError, AssertionError)
"""What Optuna raises where its tables are there, and the note of their version is not, or is another one's."""

CONNECT_ARGUMENTS = {"sqlite": {"timeout": 60}, "postgresql": {"connect_timeout": 10}}
"""Of databases: how many seconds to wait for another's write, or for the server."""


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

    Raises:
        UserError: the storage does not answer.
    """

    def __init__(self, url: str, name: str):
        self.url, self.name = url, name
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", ExperimentalWarning)  # of heartbeats
        try:
            with self.answering():
                self._storage = _open_storage(url)
        except (ImportError, *HALF_MADE) as error:  # no driver of the database, or another version of Optuna's tables
            raise self._silent(error) from error

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Tells in one line what goes wrong with the storage inside the block."""
        try:
            yield
        except (StorageInternalError, SQLAlchemyError) as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> UserError:
        reason = one_line(error.__cause__ or error)
        return UserError(
            f"storage={without_secrets(self.url)}: it does not answer ({reason}): expected an Optuna storage URL, "
            f"such as sqlite:///optuna.db or postgresql://user@host/database"
        )

    def create(self, plan: SweepPlan, definition: Mapping[str, str]) -> bool:
        """Makes the study, or recognises it. Returns whether it is new.

        Raises:
            UserError: there is one of this name with another definition.
        """
        try:
            study = optuna.create_study(study_name=self.name, storage=self._storage, direction=plan.direction)
        except DuplicatedStudyError:
            self._recognise(definition)
            return False
        study.set_user_attr(DEFINITION, dict(definition))
        return True

    def wait_for_run(self) -> str | None:
        """The MLflow run that holds the study, after giving the process that creates it the time to start one."""
        deadline = time.monotonic() + SECONDS_FOR_A_RUN
        while (found := self._load().user_attrs.get(RUN)) is None and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def set_run_id(self, run_id: str) -> None:
        self._load().set_user_attr(RUN, run_id)

    def trials(
        self, plan: SweepPlan, recipe: Recipe, *, count: int, on_interrupted: Callable[[int], None]
    ) -> TrialQueue:
        """The study's trials, the first of which tries the recipe's own values."""
        return TrialQueue(
            self._storage,
            self.name,
            count=count,
            first=plan.space.baseline(recipe),
            sampler=lambda trial: plan.make_sampler(seed=recipe.seed, trial=trial),
            pruner=plan.make_pruner(),
            on_interrupted=on_interrupted,
        )

    def once(self, purpose: str) -> TrialQueue:
        """A piece of work that one of all processes does, and another one where that dies: a study of one trial."""
        name = f"{self.name}: {purpose}"
        optuna.create_study(study_name=name, storage=self._storage, load_if_exists=True)
        return TrialQueue(
            self._storage,
            name,
            count=1,
            first={},
            sampler=lambda _: RandomSampler(),
            pruner=NopPruner(),
            on_interrupted=lambda _: None,
        )

    def agree(self, subject: str, value: str) -> None:
        """Notes what this process works with, and refuses to go on where others work with something else.

        Every value is an attribute of its own, so that of two processes that note theirs at the same time at least
        one sees both.

        Raises:
            UserError: says which subject.
        """
        prefix = f"{subject}: "

        def others() -> list[str]:
            noted = [name for name, holds in self._load().user_attrs.items() if holds and name.startswith(prefix)]
            return sorted({name.removeprefix(prefix) for name in noted} - {value})

        found = others()
        if not found:
            self._load().set_user_attr(prefix + value, True)
            if found := others():
                self._load().set_user_attr(prefix + value, False)  # so that nobody meets it later
        for other in found:
            raise UserError(
                f"study={self.name}: its trials were made with the {subject} {other}; here it is {value}: expected the "
                f"same, or another name (--study)"
            )

    def _recognise(self, definition: Mapping[str, str]) -> None:
        study = self._load()
        known = study.user_attrs.get(DEFINITION)
        if known is None:  # its creator was killed just then
            study.set_user_attr(DEFINITION, dict(definition))
            return
        for name, before, now in differences(known, definition):
            raise UserError(
                f"study={self.name}: there is one in {without_secrets(self.url)} with {name}: {before}; here it is "
                f"{now}: expected the same, or another name (--study)"
            )

    def _load(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self._storage)


def define(plan: SweepPlan, recipe: Recipe, samples: Sequence[Sample]) -> dict[str, str]:
    """What must be the same wherever a study goes on, in words: its space, its other values and its data."""
    searched = {dimension.field: f"{dimension}, from {getattr(recipe, dimension.field)}" for dimension in plan.space}
    fixed = {name: value for name, value in recipe.lessons().items() if name not in searched}
    return {"metric": plan.metric, "data": describe_samples(samples), **fixed, **searched}


def best_slot(slots: Sequence[Slot], metric: str) -> Slot | None:
    """The completed trial whose best epoch ranks highest; of equals, the first one."""
    completed = [slot for slot in slots if slot.state == "COMPLETE"]
    return max(completed, key=lambda slot: rank(slot.trial.user_attrs[METRICS], metric), default=None)


def _open_storage(url: str) -> RDBStorage:
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError as error:
        raise UserError(
            f"storage={_beginning(url)}: no database URL: expected one such as sqlite:///optuna.db"
        ) from error
    storage = _connect(url, backend)
    if backend == "sqlite":
        _make_transactions_exclusive(storage.engine)
    return storage


def _beginning(text: str) -> str:
    """No more than the first word of what has no form of a URL: where a password would stand in it is not known."""
    if "://" in text:
        return without_secrets(text)
    word = re.split(r"[^\w.+-]", text, maxsplit=1)[0]
    return word if word == text else f"{word}..."


def _connect(url: str, backend: str) -> RDBStorage:
    for left in reversed(range(ATTEMPTS)):
        try:
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": CONNECT_ARGUMENTS.get(backend, {})},
                heartbeat_interval=HEARTBEAT_INTERVAL,
                grace_period=GRACE_PERIOD,
            )
        except (StorageInternalError, SQLAlchemyError, *HALF_MADE):  # another process may just be making the tables
            if not left:
                raise
            time.sleep(1)
    raise AssertionError


def _make_transactions_exclusive(engine: Engine) -> None:
    """Has SQLite lock the database from a transaction's first read on, as others lock what is read to be changed.

    Otherwise two processes find a trial waiting, and both take it. SQLAlchemy's documentation of SQLite tells how:
    Python's module leaves the beginning of transactions to us, and we begin them with the lock.
    """

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # of connections from before
