import threading
from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_mlflow.search import TakenOverError
from vjepa_mlflow.search.reports import EpochReports


class Study:
    """Takes the place of queue and log, and has no hope for a trial whose metric is 0."""

    def __init__(self, *, prunes: bool = False) -> None:
        self.prunes, self.waits = prunes, True
        self.reported: list[tuple[int, float]] = []
        self.logged: list[int] = []

    def report(self, _: object, epoch: int, value: float) -> bool:
        if value < 0:
            raise TakenOverError
        self.reported.append((epoch, value))
        return value == 0

    def metrics(self, _: dict[str, float], *, step: int) -> None:
        self.logged.append(step)

    def stop_waiting(self) -> None:
        self.waits = False


def make_reports(study: Any) -> EpochReports:
    return EpochReports(study, SimpleNamespace(number=0), study, "val_accuracy")  # type: ignore[arg-type]


def state(*values: float) -> Any:
    return SimpleNamespace(epochs=[{"val_accuracy": value} for value in values])


def test_each_epoch_is_reported_once_and_in_order() -> None:
    study = Study()
    reports = make_reports(study)
    before = threading.active_count()
    with reports.reporting():
        assert not reports.report(state(0.5, 0.0, 0.7))  # two of which a checkpoint brought
        assert not reports.report(state(0.5, 0.0, 0.7, 0.8))
    assert study.reported == [(1, 0.5), (2, 0.0), (3, 0.7), (4, 0.8)]
    assert study.logged == [1, 2, 3, 4]
    assert reports.epochs == 4
    assert threading.active_count() == before


def test_where_trials_are_pruned_the_answer_is_waited_for() -> None:
    reports = make_reports(Study(prunes=True))
    with reports.reporting():
        assert [reports.report(state(0.5)), reports.report(state(0.5, 0.0))] == [False, True]


def test_an_error_of_the_last_report_ends_the_block() -> None:
    reports = make_reports(Study())
    with pytest.raises(TakenOverError), reports.reporting():
        reports.report(state(-1.0))


def test_after_an_interrupt_no_storage_is_waited_for() -> None:
    study = Study()
    reports = make_reports(study)
    with pytest.raises(KeyboardInterrupt), reports.reporting():
        raise KeyboardInterrupt
    assert not study.waits
