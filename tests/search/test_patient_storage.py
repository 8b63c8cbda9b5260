"""Each call of Optuna's storages, whose answer is lost the first time."""

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from vjepa_mlflow.runtime import patience
from vjepa_mlflow.runtime.patience import AwayError, Patience
from vjepa_mlflow.search.patient_storage import PatientStorage


class Forgetful:
    """A storage that does what it is asked, and whose answer is lost, each first time."""

    def __init__(self) -> None:
        self.storage = InMemoryStorage()
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.storage, name)

        def ask(*arguments: Any) -> Any:
            answer = method(*arguments)
            self.asked.append(name)
            if self.asked.count(name) == 1:
                raise AwayError("it has just gone")
            return answer

        return ask


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE", 0)


def test_each_call_is_repeated_but_those_that_add_or_delete() -> None:
    forgetful: Any = Forgetful()
    storage = PatientStorage(forgetful, Patience("storage"))
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):  # so it is told of a study that it has made itself
        storage.create_new_study([StudyDirection.MAXIMIZE], "study")
    study_id = storage.get_study_id_from_name("study")
    with pytest.raises(AwayError):
        storage.create_new_trial(study_id)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, 0)
    storage.set_study_user_attr(study_id, "name", 1)
    storage.set_study_system_attr(study_id, "name", 2)
    storage.set_trial_param(trial_id, "x", 0.5, FloatDistribution(0, 1))
    storage.set_trial_intermediate_value(trial_id, 1, 0.25)
    storage.set_trial_user_attr(trial_id, "name", 3)
    storage.set_trial_system_attr(trial_id, "name", 4)
    assert storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    assert storage.get_study_name_from_id(study_id) == "study"
    assert storage.get_study_directions(study_id) == [StudyDirection.MAXIMIZE]
    assert storage.get_study_user_attrs(study_id) == {"name": 1}
    assert storage.get_study_system_attrs(study_id) == {"name": 2}
    assert [study.study_name for study in storage.get_all_studies()] == ["study"]
    (trial,) = storage.get_all_trials(study_id)
    assert storage.get_trial(trial_id) == trial
    assert (trial.value, trial.params, trial.intermediate_values) == (0.5, {"x": 0.5}, {1: 0.25})
    assert (trial.user_attrs, trial.system_attrs) == ({"name": 3}, {"name": 4})
    with pytest.raises(AwayError):
        storage.delete_study(study_id)
    once = {name for name in forgetful.asked if forgetful.asked.count(name) == 1}
    assert once == {"create_new_study", "create_new_trial", "set_trial_state_values", "delete_study"}
    assert set(forgetful.asked) >= BaseStorage.__abstractmethods__


def test_a_trial_that_others_have_ended_is_not_taken_for_one_whose_answer_was_lost() -> None:
    forgetful: Any = Forgetful()
    storage = PatientStorage(forgetful, Patience("storage"))
    study_id = forgetful.storage.create_new_study([StudyDirection.MAXIMIZE], "study")
    trial_id = forgetful.storage.create_new_trial(study_id)
    forgetful.storage.set_trial_state_values(trial_id, TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
