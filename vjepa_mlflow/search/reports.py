"""A running trial's epochs, reported to the study and to the trial's MLflow run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from vjepa_mlflow import search, tracking, training


class EpochReports:
    """Reports the epochs of a running trial, in their order and each once.

    Where nothing is pruned an epoch is reported beside the next one, during which a GPU would else wait for a
    database.

    Args:
        queue: that the trial was taken from.
        running: the trial.
        log: of its run.
        metric: the plan's.

    Attributes:
        epochs: how many have been reported, or are about to be.
    """

    def __init__(self, queue: search.TrialQueue, running: search.RunningTrial, log: tracking.RunLog, metric: str):
        self._queue, self._running, self._log, self._metric = queue, running, log, metric
        self._pool: ThreadPoolExecutor | None = None
        self._last: Future[bool] | None = None
        self.epochs = 0

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Has a thread report during the block, and waits for it then; after an interrupt for no storage that is away.

        Raises:
            TakenOverError: the trial is no longer this process's.
        """
        with ThreadPoolExecutor(1, "reports") as self._pool:
            try:
                yield
                self.wait()
            except KeyboardInterrupt:
                self._queue.stop_waiting()
                raise

    def report(self, state: training.TrainingState) -> bool:
        """Reports the epochs of a state that have not been yet. Returns whether to prune the trial."""
        assert self._pool is not None, "only in the block"
        should_prune = False
        for epoch, metrics in enumerate(state.epochs[self.epochs :], start=self.epochs + 1):
            self.wait()
            self._last = self._pool.submit(self._report, epoch, metrics)
            if self._queue.prunes:
                should_prune = self.wait()
        self.epochs = len(state.epochs)
        return should_prune

    def wait(self) -> bool:
        """Waits until the last epoch has been reported. Returns whether to prune the trial."""
        return self._last is not None and self._last.result()

    def _report(self, epoch: int, metrics: dict[str, float]) -> bool:
        should_prune = self._queue.report(self._running, epoch, metrics[self._metric])
        self._log.metrics(metrics, step=epoch)
        return should_prune
