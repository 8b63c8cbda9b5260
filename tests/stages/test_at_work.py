"""What a job has around it."""

import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from vjepa_mlflow import UserError
from vjepa_mlflow.logs import PACKAGE, get_logger
from vjepa_mlflow.runtime import forks
from vjepa_mlflow.stages.at_work import at_work


def test_another_thread_is_refused_and_the_same_one_is_not() -> None:
    refused: list[str] = []

    def try_it() -> None:
        with pytest.raises(UserError) as caught, at_work("evaluate"):
            pass
        refused.append(str(caught.value))

    with at_work("train"), at_work("evaluate"):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert refused[0].startswith("evaluate: another thread of this process is at work (train, evaluate): expected one")
    with at_work("train"):
        pass


def compute(_: int) -> str:
    try:
        with at_work("train"):
            return f"{torch.ones(1 << 20).sum():.0f}"
    except UserError as error:
        return str(error)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU computes with one thread")
def test_a_fork_of_what_has_computed_is_refused_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "SECONDS_TO_ADD", 0.5)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(1 << 20).sum()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as forked:
            assert "train: this process was forked from one that" in forked.submit(compute, 0).result()
    finally:
        torch.set_num_threads(before)


def test_what_is_told_is_shown_where_no_program_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(PACKAGE), "handlers", [])
    with at_work("train"):
        get_logger(PACKAGE).info("a line")
    assert capsys.readouterr().out == "a line\n"
    assert logging.getLogger(PACKAGE).handlers == []
