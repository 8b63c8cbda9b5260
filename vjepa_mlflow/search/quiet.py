"""Optuna with fewer words."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.exceptions import ExperimentalWarning

_lock = threading.Lock()
_warnings_lock = threading.Lock()
_blocks = 0
_verbosity_before = 0


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Has Optuna log no line for each study and trial.

    Its verbosity is the whole process's: of blocks that overlap in several threads the last one to end brings it back,
    unless the caller has set another one meanwhile.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


@contextmanager
def no_experimental_warnings() -> Iterator[None]:
    """Has Optuna not warn that samplers and their options are experimental.

    For short blocks: the filters of warnings are the whole process's, so that threads have the block one after another.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _enter() -> None:
    global _blocks, _verbosity_before
    with _lock:
        if _blocks == 0:
            _verbosity_before = optuna.logging.get_verbosity()
            optuna.logging.set_verbosity(optuna.logging.WARNING)
        _blocks += 1


def _leave() -> None:
    global _blocks
    with _lock:
        _blocks -= 1
        if _blocks == 0 and optuna.logging.get_verbosity() == optuna.logging.WARNING:
            optuna.logging.set_verbosity(_verbosity_before)
