"""Whether the installed Optuna still has what is used of it without its promise."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from helpers import PYPROJECT
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event, inspect, text

from vjepa_mlflow.internals import optuna_private


def optuna_range() -> str:
    """The versions of Optuna that the package asks for."""
    (requirement,) = [line for line in PYPROJECT["project"]["dependencies"] if line.startswith("optuna>=")]
    return str(requirement)


@contextmanager
def still_in_optuna(what: str) -> Iterator[None]:
    """Says of whatever fails in the block that it is Optuna that has changed, and which one."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        pytest.fail(
            f"Optuna {optuna.__version__} has no {what} any more, as vjepa_mlflow/internals/optuna_private.py uses it "
            f"({type(error).__name__}: {error}): pyproject.toml asks for {optuna_range()}"
        )


@pytest.fixture
def storage(tmp_path: Path) -> RDBStorage:
    return RDBStorage(f"sqlite:///{tmp_path}/optuna.db")


def make_study(storage: BaseStorage) -> tuple[optuna.Study, int]:
    study = optuna.create_study(storage=storage, study_name="study")
    return study, storage.get_study_id_from_name("study")


def add_running(study: optuna.Study, storage: BaseStorage, **params: float) -> int:
    """Adds a trial that is running, as one that this package has taken, and returns its id."""
    study.enqueue_trial(params)
    study_id = storage.get_study_id_from_name("study")
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, len(study.trials) - 1)
    assert storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    return trial_id


def test_the_installed_optuna_is_within_the_range(storage: RDBStorage) -> None:
    at_least, below = optuna_range().removeprefix("optuna>=").split(",<")
    assert int(at_least) <= int(optuna.__version__.split(".")[0]) < int(below)


def test_what_is_gone_is_named_with_versions() -> None:
    with (
        pytest.raises(pytest.fail.Exception, match=rf"Optuna {optuna.__version__} has no cat any more.*optuna>=\d+,<"),
        still_in_optuna("cat"),
    ):
        raise AttributeError


def test_a_trial_is_opened_by_its_id_and_with_its_own_sampler(storage: RDBStorage) -> None:
    study, _ = make_study(storage)
    study.enqueue_trial({"x": 0.25})
    trial_id = add_running(study, storage, x=0.75)
    with still_in_optuna("optuna.Trial(study, trial_id)"):
        sampler = RandomSampler(seed=0)
        trial = optuna_private.open_trial(study, trial_id, sampler)
        assert (trial.number, trial.suggest_float("x", 0, 1)) == (1, 0.75)
        trial.report(0.5, 1)
        assert trial.study.sampler is sampler
        assert study.sampler is not sampler
        trial.study.tell(trial, 0.5)
        assert [each.state for each in study.trials] == [TrialState.WAITING, TrialState.COMPLETE]


def test_what_has_ended_is_read_once(storage: RDBStorage) -> None:
    with still_in_optuna("optuna.storages.get_storage, which puts a cache around an RDBStorage,"):
        cached = optuna_private.cached_storage(storage)
        study, study_id = make_study(cached)
        study.tell(study.ask(), 0.5)
        (trial,) = cached.get_all_trials(study_id)
        asked: list[str] = []
        event.listen(
            optuna_private.engine_of(storage), "before_cursor_execute", lambda *arguments: asked.append(arguments[2])
        )
        trial_id = cached.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        assert cached.get_trial(trial_id).value == 0.5
        assert not asked
        assert storage.get_trial(trial_id).value == 0.5
        assert asked


def test_all_calls_go_through_the_engine(storage: RDBStorage) -> None:
    begun: list[object] = []
    with still_in_optuna("RDBStorage.engine"):
        event.listen(optuna_private.engine_of(storage), "begin", begun.append)
        make_study(storage)
        assert begun


def test_heartbeats_of_running_trials(storage: RDBStorage) -> None:
    study, study_id = make_study(storage)
    silent, beating, ended = (add_running(study, storage) for _ in range(3))
    with still_in_optuna("RDBStorage.record_heartbeat and table trial_heartbeats"):
        for trial_id in (beating, ended):
            optuna_private.record_heartbeat(storage, trial_id)
        storage.set_trial_state_values(ended, TrialState.FAIL)
        heartbeats = optuna_private.last_heartbeats(storage, study_id)
        assert heartbeats.keys() == {silent, beating}
        assert heartbeats[silent] is None
        assert heartbeats[beating] is not None
        assert optuna_private.last_heartbeats(storage, study_id + 1) == {}


def test_a_study_is_known_by_its_name(storage: RDBStorage) -> None:
    make_study(storage)
    with still_in_optuna("table studies"), storage.engine.connect() as connection:
        assert optuna_private.STUDIES_TABLE in inspect(connection).get_table_names()
        assert optuna_private.has_study(connection, "study")
        assert not optuna_private.has_study(connection, "another")


def test_tables_of_another_version_are_refused(storage: RDBStorage) -> None:
    with storage.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v0.0.0'"))
    with still_in_optuna("RuntimeError for tables of another version"), pytest.raises(optuna_private.SCHEMA_ERRORS):
        RDBStorage(storage.url)


def test_whoever_writes_to_a_trial_that_has_ended_is_told(storage: RDBStorage) -> None:
    study, _ = make_study(storage)
    trial = optuna_private.open_trial(study, add_running(study, storage), RandomSampler())
    trial.study.tell(trial, 0.5)
    for write in (lambda: trial.report(0.5, 2), lambda: trial.study.tell(trial, 0.5)):
        with still_in_optuna("UpdateFinishedTrialError or ValueError"), pytest.raises(optuna_private.FINISHED_ERRORS):
            write()
