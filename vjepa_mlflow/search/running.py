"""A trial that this process runs, until another one takes it over."""

from dataclasses import dataclass

from optuna.trial import Trial


class TakenOverError(Exception):
    """Another process took this one for dead and took over its trial."""


@dataclass(frozen=True)
class RunningTrial:
    """A trial that is this process's to run.

    Attributes:
        number: the trial's, the same for every retry.
        trial: Optuna's handle of this try.
    """

    number: int
    trial: Trial
