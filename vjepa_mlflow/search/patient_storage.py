"""Optuna's storage of a database whose server is waited for while it is away."""

from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from vjepa_mlflow.runtime.patience import Patience

Answer = TypeVar("Answer")


class PatientStorage(BaseStorage):
    """A storage each of whose calls is one transaction, and is made again while nobody answers.

    The answer alone may be what was lost: a call that is made again reads, or writes what is then there already. Of
    the rest, `set_trial_state_values` looks what has become of it, and `create_new_trial` is made once: whoever knows
    what the trial is for repeats more than that, see `repeat`.

    Args:
        storage: what is asked; it raises `AwayError` where its server does not answer.
        patience: with that server.
    """

    def __init__(self, storage: BaseStorage, patience: Patience):
        self._storage, self._patience = storage, patience

    def repeat(self, call: Callable[[], Answer]) -> Answer:
        """Asks the database something, again while it is away.

        Raises:
            UserError: it stays away.
        """
        return self._patience.ask(call)

    def stop_waiting(self) -> None:
        """Has no thread wait for the server any more, should it be away."""
        self._patience.give_up()

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self.repeat(lambda: self._storage.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        self._storage.delete_study(study_id)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self.repeat(lambda: self._storage.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self.repeat(lambda: self._storage.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self.repeat(lambda: self._storage.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self.repeat(lambda: self._storage.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.repeat(lambda: self._storage.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[Any]:
        return self.repeat(self._storage.get_all_studies)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self.repeat(lambda: self._storage.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.repeat(lambda: self._storage.set_study_system_attr(study_id, key, value))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self._storage.create_new_trial(study_id, template_trial)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self.repeat(lambda: self._storage.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self.repeat(lambda: self._storage.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self.repeat(lambda: self._storage.get_all_trials(study_id, deepcopy, states))

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self.repeat(lambda: self._storage.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self.repeat(lambda: self._storage.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.repeat(lambda: self._storage.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.repeat(lambda: self._storage.set_trial_system_attr(trial_id, key, value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """A trial that was taken by a call whose answer was lost is nobody's, and found as a dead process's is."""
        calls = 0

        def call() -> bool:
            nonlocal calls
            calls += 1
            try:
                return self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if calls > 1 and self.get_trial(trial_id).state == state:  # the first call has arrived
                    return True
                raise

        return self.repeat(call)
