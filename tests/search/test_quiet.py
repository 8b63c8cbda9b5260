import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler

from vjepa_mlflow.search.quiet import no_experimental_warnings, quiet_optuna

LOUD, QUIET = optuna.logging.DEBUG, optuna.logging.WARNING


@pytest.fixture(autouse=True)
def verbosity() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(LOUD)
    yield
    optuna.logging.set_verbosity(before)


def test_blocks_of_several_threads_that_overlap_leave_optuna_as_it_was() -> None:
    first_left = threading.Event()
    second_entered = threading.Event()

    def overlap() -> None:
        with quiet_optuna():
            second_entered.set()
            first_left.wait(10)

    second = threading.Thread(target=overlap)
    with quiet_optuna():
        second.start()
        second_entered.wait(10)
    assert optuna.logging.get_verbosity() == QUIET
    first_left.set()
    second.join()
    assert optuna.logging.get_verbosity() == LOUD


def test_what_the_caller_sets_meanwhile_stays() -> None:
    with suppress(KeyError), quiet_optuna():
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        raise KeyError
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR


def test_no_warnings_of_experiments_and_none_are_lost_afterwards() -> None:
    def make() -> None:
        TPESampler(multivariate=True, group=True)

    filters = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with no_experimental_warnings():
            make()
        assert not caught
        make()
        assert {each.category for each in caught} == {ExperimentalWarning}
    assert list(warnings.filters) == filters
