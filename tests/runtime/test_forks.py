import os
import threading
from collections.abc import Callable

import pytest
import torch

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.runtime import forks
from vjepa_mlflow.runtime.forks import call_apart, check_fork, check_gpu


def status_in_fork(work: Callable[[], None]) -> int:
    """0 where work ended, 3 where the fork was refused, in a fork of this process."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except UserError:
            status = 3
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_first_process_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_adds_in_parallel", lambda: False)
    check_fork("train")


@pytest.mark.parametrize(("adds", "status"), [(True, 0), (False, 3)])
def test_a_fork_is_refused_where_numbers_cannot_be_added_up(
    adds: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "_adds_in_parallel", lambda: adds)
    assert status_in_fork(lambda: check_fork("train")) == status


def test_a_fork_that_waits_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "SECONDS_TO_ADD", 0.1)
    monkeypatch.setattr(torch, "ones", lambda _: threading.Event().wait())
    assert not forks._adds_in_parallel()
    monkeypatch.undo()
    monkeypatch.setattr(torch, "ones", lambda _: torch.zeros(1))  # in one thread
    assert forks._adds_in_parallel()


def test_a_gpu_is_refused_to_a_fork_of_who_used_one(monkeypatch: pytest.MonkeyPatch) -> None:
    check_gpu("predict")
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(UserError, match=r"^predict: this process was forked from one that had used a GPU"):
        check_gpu("predict")


def test_what_is_called_apart_is_in_another_thread_and_its_result_or_error_comes_back() -> None:
    assert call_apart(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        call_apart(lambda: 1 // 0)
