"""Signs of life of a run: given, and looked for."""

import threading
import time

import pytest
from mlflow import MlflowClient

from vjepa_mlflow.tracking import signs_of_life
from vjepa_mlflow.tracking.outbox_folder import locked, root_of
from vjepa_mlflow.tracking.signs_of_life import ALIVE_TAG, giving_signs_of_life, is_worked_at


def test_they_are_given_as_long_as_the_block_lasts_also_where_one_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    signs, third = [], threading.Event()

    def set_tag(_: MlflowClient, run_id: str, name: str, value: str) -> None:
        signs.append((run_id, name))
        if len(signs) == 1:
            raise ConnectionError
        if len(signs) == 3:
            third.set()

    monkeypatch.setattr(signs_of_life, "SIGN_INTERVAL", 0.01)
    monkeypatch.setattr(MlflowClient, "set_tag", set_tag)
    with giving_signs_of_life("0123"):
        assert third.wait(20)
    time.sleep(0.05)  # for one that was under way
    given = len(signs)
    time.sleep(0.1)
    assert len(signs) == given
    assert set(signs) == {("0123", ALIVE_TAG)}


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_run_of_another_machine_is_worked_at_if_its_sign_changes(
    run_id: str, monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    monkeypatch.setattr(signs_of_life, "OBSERVED", 0.1)
    run = MlflowClient().get_run(run_id)

    def work_elsewhere(_: float) -> None:
        if is_alive:
            MlflowClient().set_tag(run_id, ALIVE_TAG, "1")

    monkeypatch.setattr(signs_of_life.time, "sleep", work_elsewhere)
    assert is_worked_at(run, "RUNNING") is is_alive


def test_a_run_of_this_machine_is_worked_at_while_its_outbox_is_locked(run_id: str) -> None:
    run = MlflowClient().get_run(run_id)
    folder = root_of(run_id) / "a"
    folder.mkdir(parents=True)
    with locked(folder):
        assert is_worked_at(run, "RUNNING")
        assert not is_worked_at(run, "KILLED")
    assert not is_worked_at(run, "RUNNING")
