"""The storage of a study: opened, asked for heartbeats, and refused once it is not the one that it was."""

import re
import time
from collections.abc import Callable
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.internals import optuna_private
from vjepa_mlflow.runtime.patience import Patience
from vjepa_mlflow.search.database import (
    CONNECT_ARGUMENTS,
    SQLITE,
    file_identity,
    make_transactions_exclusive,
    raise_when_away,
)
from vjepa_mlflow.search.mlflow_database import refuse_mlflow_database
from vjepa_mlflow.search.patient_storage import Answer, PatientStorage
from vjepa_mlflow.secrets import without_secrets

TRIES = 3
"""To open a storage."""

RUN = "mlflow_run_id"
"""The attribute of a study: the MLflow run that holds it."""


class StudyStorage(PatientStorage):
    """The storage of a study that is worked on, in a database of any kind.

    Args:
        url: the database's.
        study: that is worked on.
        patience: with the database's server.
    """

    def __init__(self, url: str, study: str, patience: Patience):
        self._url, self._study = url, study
        self._run_id: str | None = None
        backend = make_url(url).get_backend_name()
        # A connection that broke while it was not used is replaced before it is.
        self._database = RDBStorage(
            url, engine_kwargs={"connect_args": CONNECT_ARGUMENTS.get(backend, {}), "pool_pre_ping": backend != SQLITE}
        )
        super().__init__(optuna_private.cached_storage(self._database), patience)
        if backend == SQLITE:
            make_transactions_exclusive(self.engine)
        else:
            raise_when_away(self.engine)
        self._file = self._identify_file()

    @property
    def engine(self) -> Engine:
        return optuna_private.engine_of(self._database)

    def repeat(self, call: Callable[[], Answer]) -> Answer:
        """As of any database.

        Raises:
            UserError: it stays away, or the study, or its trial, is not there any more.
        """
        try:
            return super().repeat(call)
        except KeyError as error:
            if self._is_there():
                raise
            raise self.gone() from error

    def hold(self, run_id: str) -> None:
        """From here on the study must be the one that this MLflow run holds, see `check`."""
        self._study_id, self._run_id = self.get_study_id_from_name(self._study), run_id
        self.check()

    def check(self) -> None:
        """Refuses to go on where the study is not there any more, or is another one of the same name.

        Raises:
            UserError: it was deleted, or made anew.
        """
        self.check_file()
        if self._run_id is None:
            return
        try:
            run_id = self.get_study_user_attrs(self._study_id).get(RUN)
        except KeyError:  # though there is one of its name
            run_id = None
        if run_id != self._run_id:
            raise self.gone()

    def check_file(self) -> None:
        """Refuses to go on in a file that nobody else sees any more.

        Raises:
            UserError: it was deleted or replaced.
        """
        if self._identify_file() != self._file:
            raise UserError(
                f"storage={self._url}: the file was deleted or replaced while the study ran: expected it to stay"
            )

    def gone(self) -> UserError:
        """Says that the study is not there any more, or is another one."""
        return UserError(
            f"study={self._study}: it was deleted from {without_secrets(self._url)}, or made anew there, while it ran: "
            f"expected it to stay; the same command begins a new one, or goes on with what is there"
        )

    def record_heartbeat(self, trial_id: int) -> None:
        optuna_private.record_heartbeat(self._database, trial_id)

    def last_heartbeats(self, study_id: int) -> dict[int, object]:
        """The last heartbeat of each running trial, by its id; None where there is none."""
        return optuna_private.last_heartbeats(self._database, study_id)

    def note_once(self, trial_id: int, name: str, content: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, name, content)

    def interrupt_once(self, trial_id: int) -> None:
        self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _is_there(self) -> bool:
        try:
            self._storage.get_study_id_from_name(self._study)
        except KeyError:
            return False
        return True

    def _identify_file(self) -> tuple[int, int] | None:
        return file_identity(self.engine.url) if self.engine.url.get_backend_name() == SQLITE else None


def open_storage(url: str, study: str, *, tracking_uri: str = "", tells: bool = True) -> StudyStorage:
    """Opens a database for a study, and makes Optuna's tables where there are none.

    Args:
        url: the database's.
        study: that is worked on.
        tracking_uri: MLflow's, whose database is to be another one.
        tells: whether to say that a server is waited for.

    Raises:
        UserError: it is no database URL, or MLflow's database, or its server stays away.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UserError(
            f"storage={_beginning(url)}: no database URL: expected one such as sqlite:///optuna.db"
        ) from error
    patience = Patience(f"storage={without_secrets(url)}", tells=tells)
    patience.ask(lambda: refuse_mlflow_database(parsed, study, tracking_uri))
    for tries_left in reversed(range(TRIES)):
        try:
            return StudyStorage(url, study, patience)
        # Another process may just be making the tables.
        except (StorageInternalError, SQLAlchemyError, *optuna_private.SCHEMA_ERRORS):
            if not tries_left:
                raise
            time.sleep(1)
    raise AssertionError


def _beginning(text: str) -> str:
    """No more than the first word of what has no form of a URL: where a password would stand in it is not known."""
    if "://" in text:
        return without_secrets(text)
    word = re.split(r"[^\w.+-]", text, maxsplit=1)[0]
    return word if word == text else f"{word}..."
