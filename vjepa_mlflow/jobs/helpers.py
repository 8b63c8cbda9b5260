"""Processes that help with a sweep's trials, each on a GPU of its own where there are several."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TextIO

from vjepa_mlflow import data, model, sweep, tracking
from vjepa_mlflow.cpus import thread_count
from vjepa_mlflow.errors import UserError, one_line, remark
from vjepa_mlflow.interrupts import gentle_interrupts
from vjepa_mlflow.jobs.prepare import Drawing, Fault, Preparation, find_checkpoint
from vjepa_mlflow.jobs.trials import TrialRunner, Workshop
from vjepa_mlflow.outputs import outlast_readers
from vjepa_mlflow.processes import (
    end_with_the_parent,
    fork_server,
    hear_interrupts,
    start_fork_server,
    without_main,
)
from vjepa_mlflow.ranks import Share
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.workers import end_workers

PAUSE = 0.2
SECONDS_TO_END = 20
"""How long a process may take to give its trial back before it is killed."""


@dataclass(frozen=True)
class Assignment:
    """What one of several processes is to do.

    Attributes:
        plan: of the sweep.
        recipe: of its trials.
        encoded: the recipe whose features are encoded first.
        count: trials that are to end.
        storage: URL of the study's.
        study: its name.
        run_id: the MLflow run that holds the study.
        tracking_uri: MLflow's.
        began: what the study began with, where it goes on.
        share: this process's among those of this command.
    """

    plan: sweep.SweepPlan
    recipe: Recipe
    encoded: Recipe
    count: int
    storage: str
    study: str
    run_id: str
    tracking_uri: str
    began: data.Beginning | None = None
    share: Share = field(default_factory=Share)

    @property
    def threads(self) -> int:
        """That the process computes with, since the others need cores too."""
        return thread_count(self.share.world_size)

    def workshop(
        self, shared: sweep.SharedStudy, on_faults: Callable[[list[Fault]], None] = lambda _: None
    ) -> Workshop:
        """Where this process tries trials; it refuses data or a model that are not those of the others."""

        def agree(prepared: Preparation) -> None:
            samples = [sample for samples in prepared.dataset.splits.values() for sample in samples]
            shared.agree("videos", data.describe_contents(samples))
            shared.agree(f"weights of {prepared.checkpoint.name}", prepared.checkpoint.revision)

        return Workshop(
            self.share,
            began=self.began,
            drawing=None if self.began else self.drawing(),
            on_prepared=agree,
            on_faults=on_faults,
        )

    def drawing(self) -> Drawing:
        """The baseline's seed draws, and what any of the models that are tried has seen keeps its split."""
        tried = self.plan.space.values("model", self.recipe)
        if len(tried) == 1:
            return Drawing(self.recipe.seed)
        known = [find_checkpoint(replace(self.recipe, model=name))[1] for name in tried]
        return Drawing(self.recipe.seed, data.joint_role([seen for seen in known if seen is not None]))

    def queue(self, shared: sweep.SharedStudy) -> sweep.TrialQueue:
        return shared.trials(self.plan, self.recipe, count=self.count, on_interrupted=self._end_run)

    def runner(
        self,
        shared: sweep.SharedStudy,
        workshop: Workshop,
        *,
        stopping: Callable[[], bool],
        look: Callable[[], None] = lambda: None,
    ) -> TrialRunner:
        return TrialRunner(
            self.queue(shared), self.plan, self.recipe, workshop, self.run_id, self.threads, stopping, look
        )

    def for_process(self, rank: int, world_size: int) -> Assignment:
        """The same for one of several processes, with a GPU of its own as far as there are enough."""
        import torch

        def placed(recipe: Recipe) -> Recipe:
            device = model.choose_device(recipe.device)
            if world_size > 1 and device.type == "cuda" and recipe.device in ("auto", "cuda"):
                return replace(recipe, device=f"cuda:{rank % torch.cuda.device_count()}")
            return recipe

        return replace(self, recipe=placed(self.recipe), encoded=placed(self.encoded), share=Share(rank, world_size))

    def _end_run(self, trial: int) -> None:
        run_id = tracking.find_trial_run(self.run_id, trial)
        if run_id is not None:  # else it was interrupted before it had one
            tracking.end_trial_run(run_id, "INTERRUPTED")


class Team:
    """The helpers of a command, as the process sees them that started them."""

    def __init__(self, processes: list[ForkServerProcess], encoded: list[Event], go: Event, ends: list[Connection]):
        self._processes, self._encoded, self._go, self._ends = processes, encoded, go, ends
        self._missed: set[int] = set()

    @property
    def process_ids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid is not None]

    def meet(self) -> None:
        """Waits until all have encoded their share."""
        while not all(map(self._has_encoded, range(len(self._processes)))):
            time.sleep(PAUSE)

    def begin(self) -> None:
        """Lets all begin with the trials."""
        self._go.set()

    def look(self) -> None:
        """Tells of helpers that ended before their time."""
        for index, process in enumerate(self._processes):
            if process.exitcode and index not in self._missed:
                self._missed.add(index)
                reason = self._ends[index].recv() if self._ends[index].poll() else f"exit status {process.exitcode}"
                remark(f"Worker {index + 1} ended ({reason}): its trial goes on elsewhere")

    def wait(self) -> None:
        """Waits until all have ended by themselves."""
        for process in self._processes:
            process.join()

    def _has_encoded(self, index: int) -> bool:
        return self._encoded[index].is_set() or self._processes[index].exitcode is not None


@contextmanager
def helpers(whole: Assignment, world_size: int) -> Iterator[Team]:
    """Starts the processes of ranks 1, 2, ...; rank 0 is this one. What goes wrong in the block ends them.

    Args:
        whole: what all of them are to do.
        world_size: how many there are, with this one.
    """
    context = fork_server()
    if world_size > 1:
        start_fork_server()
    go = context.Event()
    encoded = [context.Event() for _ in range(1, world_size)]
    pipes = [context.Pipe(duplex=False) for _ in encoded]
    surroundings = Surroundings(dict(os.environ), Path.cwd())
    processes = [
        context.Process(target=_help, args=(whole.for_process(rank, world_size), surroundings, event, go, pipe[1]))
        for rank, (event, pipe) in enumerate(zip(encoded, pipes, strict=True), start=1)
    ]
    with without_main():
        for process in processes:
            process.start()
    try:
        yield Team(processes, encoded, go, [pipe[0] for pipe in pipes])
    except BaseException as error:
        if not (go.is_set() and isinstance(error, KeyboardInterrupt)):  # which they have got as well
            for process in processes:
                process.terminate()
        raise
    finally:
        for process in processes:
            process.join(SECONDS_TO_END)
            process.kill()


@dataclass(frozen=True)
class Surroundings:
    """What a process would have from the one that started it, were it not started by a fork server."""

    environment: dict[str, str]
    folder: Path

    def enter(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        os.environ.pop("MLFLOW_RUN_ID", None)
        os.chdir(self.folder)


def _help(assignment: Assignment, surroundings: Surroundings, encoded: Event, go: Event, end: Connection) -> None:
    """What a helper does."""
    os.setpgrp()  # a terminal's Ctrl-C reaches the first process alone, which passes it on
    end_with_the_parent()
    surroundings.enter()
    os.environ["LOCAL_WORLD_SIZE"] = str(assignment.share.world_size)
    outlast_readers()
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115, it is this process's until its end
    sys.stderr = _no_terminal(sys.stderr)
    try:
        hear_interrupts()
        _encode_and_work(assignment, encoded, go)
    except KeyboardInterrupt:
        sys.exit(130)
    except UserError as error:
        end.send(one_line(error))
        sys.exit(2)
    except BaseException as error:
        end.send(f"{type(error).__name__}: {one_line(error)}")
        raise
    finally:
        end_workers()


def _encode_and_work(assignment: Assignment, encoded: Event, go: Event) -> None:
    """Encodes a share, and takes trials once the others have done so as well."""
    import mlflow

    mlflow.set_tracking_uri(assignment.tracking_uri)
    shared = sweep.SharedStudy(assignment.storage, assignment.study, tells=False)
    workshop = assignment.workshop(shared)
    with model.cpu_threads(assignment.threads):
        workshop.encode(assignment.encoded)
        with gentle_interrupts() as stopping, shared.answering():
            encoded.set()
            while not go.is_set() and not stopping():
                time.sleep(PAUSE)
            assignment.runner(shared, workshop, stopping=stopping).work()


def _no_terminal(stream: TextIO) -> TextIO:
    """The same stream, without progress bars, of which the first process shows enough."""
    stream.isatty = lambda: False  # type: ignore[method-assign]
    return stream
