"""What this package uses of Optuna that Optuna does not promise to keep, each with the reason.

Looked at in Optuna 5.0, of optuna>=5,<6.
"""

import copy

from optuna import Study, Trial, storages
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import Connection, Engine, text

STUDIES_TABLE = "studies"

SCHEMA_ERRORS = (RuntimeError, AssertionError)
"""What `RDBStorage` raises, without saying so, where its tables are there and the note of their version is not, since
another process is just making them, or is another version's."""

FINISHED_ERRORS = (UpdateFinishedTrialError, ValueError)
"""What is raised where a trial that has ended is written to. The second one is `Study.tell`'s, which says of no error
what it means."""


def open_trial(study: Study, trial_id: int, sampler: BaseSampler) -> Trial:
    """Makes the `Trial` of a trial that is running already.

    `Study.ask` takes the first trial that waits, whichever that is, and adds another one where none does; ours are
    taken by their numbers, which also decide their samplers.

    Args:
        study: that it is of; the trial gets a copy, which has read nothing yet that its sampler would take for what
            there is.
        trial_id: the trial's.
        sampler: suggests its values.
    """
    study = copy.copy(study)
    study.sampler = sampler
    study.get_trials(deepcopy=False)  # Optuna's cache takes writes for those trials alone that it has read
    return Trial(study, trial_id)


def cached_storage(storage: RDBStorage) -> BaseStorage:
    """The storage behind Optuna's cache of trials that have ended.

    Optuna puts it around each `RDBStorage` that it is given, and around nothing else: a storage of another class, which
    asks an `RDBStorage`, has to do so itself, or would read all trials each time.
    """
    return storages.get_storage(storage)


def engine_of(storage: RDBStorage) -> Engine:
    """The engine of a storage, whose events tell where a server is away and how transactions begin.

    No argument of `RDBStorage` takes an engine, or anything that may be done to it once it is made.
    """
    return storage.engine


def record_heartbeat(storage: RDBStorage, trial_id: int) -> None:
    """Records a heartbeat of a running trial.

    Optuna does so only within `Study.optimize`, which runs as many trials as one process does; ours are asked for, and
    told of, one by one.
    """
    storage.record_heartbeat(trial_id)


def last_heartbeats(storage: RDBStorage, study_id: int) -> dict[int, object]:
    """The last heartbeat of each running trial, by its id; None where there is none.

    Optuna compares them with the server's clock, and says only which of them are too old; and it knows nothing of a
    process that died before its first one.
    """
    query = text(
        "SELECT trials.trial_id, heartbeat FROM trials LEFT JOIN trial_heartbeats "
        "ON trials.trial_id = trial_heartbeats.trial_id WHERE study_id = :study AND state = 'RUNNING'"
    )
    with storage.engine.connect() as connection:
        return {row.trial_id: row.heartbeat for row in connection.execute(query, {"study": study_id})}


def has_study(connection: Connection, name: str) -> bool:
    """Whether a database that has Optuna's tables knows a study.

    Whatever Optuna offers makes its tables where there are none, in a database that may be somebody else's.
    """
    query = text("SELECT 1 FROM studies WHERE study_name = :name")
    return connection.execute(query, {"name": name}).first() is not None
