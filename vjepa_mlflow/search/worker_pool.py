"""Processes that help with a sweep's trials, each on a GPU of its own where there are several."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from vjepa_mlflow import data, model, search, tracking
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.compilations import own_compilations
from vjepa_mlflow.files.temporary import lend_to_libraries, own_temporaries
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.interrupts import gentle_interrupts
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.runtime.workers import start_process, worker_processes
from vjepa_mlflow.search.runner import TrialRunner, TrialSetups
from vjepa_mlflow.stages.prepare import Drawing, Fault, Preparation, find_checkpoint
from vjepa_mlflow.terminal.messages import messages_shown
from vjepa_mlflow.terminal.outputs import outlast_readers

logger = get_logger(__name__)

PAUSE = 0.2
SECONDS_TO_END = 20
"""How long a process may take to give its trial back before it is killed."""

SECONDS_TO_NOTE = 3
"""How long one may take that works for nobody any more."""


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
        params: of that run, where the study goes on; None where it begins.
        began: what the study began with, where it goes on.
        share: this process's among those of this command.
    """

    plan: search.SweepPlan
    recipe: Recipe
    encoded: Recipe
    count: int
    storage: str
    study: str
    run_id: str
    tracking_uri: str
    params: Mapping[str, str] | None = None
    began: data.Beginning | None = None
    share: Share = field(default_factory=Share)

    def setups(
        self, shared: search.SharedStudy, on_faults: Callable[[list[Fault]], None] = lambda _: None
    ) -> TrialSetups:
        """Where this process tries trials; it refuses data or a model that are not those of the others."""

        def agree(prepared: Preparation) -> None:
            samples = [sample for samples in prepared.dataset.splits.values() for sample in samples]
            shared.agree("videos", data.describe_contents(samples))
            shared.agree(f"weights of {prepared.checkpoint.name}", prepared.checkpoint.revision)

        return TrialSetups(
            self.share,
            trials=self.count,
            accumulation_sizes=self.plan.space.accumulation_sizes,
            params=self.params,
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

    def queue(self, shared: search.SharedStudy) -> search.TrialQueue:
        return shared.queue(self.plan, self.recipe, count=self.count, on_interrupted=self._end_run)

    def runner(
        self,
        shared: search.SharedStudy,
        setups: TrialSetups,
        *,
        stopping: Callable[[], bool],
        look: Callable[[], None] = lambda: None,
    ) -> TrialRunner:
        return TrialRunner(self.queue(shared), self.plan, self.recipe, setups, self.run_id, stopping, look)

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


class Worker:
    """A process that helps, as the one sees it that started it.

    Attributes:
        process_id: of it.
        has_encoded: whether its share of the clips is encoded.
        end: why it ended before its time, empty if it did not; None while it is at work.
    """

    def __init__(self, assignment: Assignment):
        self._channel, self.process_id = start_process(_work, assignment)
        self.has_encoded = False
        self.end: str | None = None

    def listen(self, seconds: float = 0) -> None:
        """Takes what it says of itself, if anything, and waits for that so long."""
        while self.end is None and self._channel.has_something(seconds):
            try:
                attribute, value = self._channel.receive()[0]
            except EOFError:
                attribute, value = "end", "it was killed"
            setattr(self, attribute, value)
            seconds = 0

    def let_begin(self) -> None:
        with suppress(OSError):  # it has ended
            self._channel.send(None)

    def stop(self) -> None:
        """Has it give its trial back and end."""
        if self.end is None:
            with suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGTERM)

    def finish(self, deadline: float) -> None:
        """Waits so long for its end, which comes then at the latest.

        Args:
            deadline: of `time.monotonic`.
        """
        while self.end is None and time.monotonic() < deadline:
            self.listen(PAUSE)
        self._channel.close()  # of which it would die


class WorkerPool:
    """The helpers of a command."""

    def __init__(self, worker_pool: list[Worker]):
        self._workers = worker_pool
        self._missed: set[Worker] = set()

    def process_ids(self) -> list[int]:
        """Of those that are at work."""
        return [worker.process_id for worker in self._workers if worker.end is None]

    def meet(self) -> None:
        """Waits until all have encoded their share."""
        while any(worker.end is None and not worker.has_encoded for worker in self._workers):
            time.sleep(PAUSE)
            self.look()

    def begin(self) -> None:
        """Lets all begin with the trials."""
        for worker in self._workers:
            worker.let_begin()

    def look(self) -> None:
        """Hears all, and tells of those that ended before their time."""
        for number, worker in enumerate(self._workers, start=1):
            worker.listen()
            if worker.end and worker not in self._missed:
                self._missed.add(worker)
                logger.warning(f"Worker {number} ended ({worker.end}): its trial goes on elsewhere")

    def wait(self) -> None:
        """Waits until all have ended by themselves."""
        for worker in self._workers:
            while worker.end is None:
                worker.listen(PAUSE)


@contextmanager
def worker_pool(whole: Assignment, world_size: int) -> Iterator[WorkerPool]:
    """Starts the processes of ranks 1, 2, ...; rank 0 is this one. What goes wrong in the block ends them.

    Args:
        whole: what all of them are to do.
        world_size: how many there are, with this one.
    """
    started = [Worker(whole.for_process(rank, world_size)) for rank in range(1, world_size)]
    try:
        yield WorkerPool(started)
    except BaseException:
        for worker in started:
            worker.stop()
        raise
    finally:
        deadline = time.monotonic() + SECONDS_TO_END
        for worker in started:
            worker.finish(deadline)


def _work(channel: Channel, assignment: Assignment) -> None:
    """What a helper does."""
    go = threading.Event()
    threading.Thread(target=_hear_the_first, args=(channel, go), daemon=True).start()
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ["LOCAL_WORLD_SIZE"] = str(assignment.share.world_size)
    lend_to_libraries()
    outlast_readers()
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115, it is this process's until its end
    sys.stderr = _no_terminal(sys.stderr)
    end = ""
    try:
        with messages_shown(), own_temporaries(), own_compilations(), worker_processes():
            _encode_and_work(assignment, channel, go)
    except KeyboardInterrupt:
        end = "it was interrupted"
    except UserError as error:
        end = one_line(error)
    except BaseException as error:
        end = f"{type(error).__name__}: {one_line(error)}"
        raise
    finally:
        channel.send(("end", end))


def _hear_the_first(channel: Channel, go: threading.Event) -> None:
    """Waits for the word of the process that this one works for, and ends this one with it.

    Its trial is not to blame: there is some time to note that.
    """
    with suppress(EOFError):
        while True:
            channel.receive()
            go.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_NOTE)
    os._exit(1)


def _encode_and_work(assignment: Assignment, channel: Channel, go: threading.Event) -> None:
    """Encodes a share, and takes trials once the others have done so as well."""
    import mlflow

    mlflow.set_tracking_uri(assignment.tracking_uri)
    shared = search.SharedStudy(assignment.storage, assignment.study, tells=False)
    shared.hold(assignment.run_id)
    setups = assignment.setups(shared)
    with model.cpu_threads(thread_count(processes=assignment.share.world_size)):
        setups.encode(assignment.encoded)
        with gentle_interrupts() as stopping, shared.answering():
            channel.send(("has_encoded", True))
            while not go.is_set() and not stopping():
                time.sleep(PAUSE)
            assignment.runner(shared, setups, stopping=stopping).work()


def _no_terminal(stream: TextIO) -> TextIO:
    """The same stream, without progress bars, of which the first process shows enough."""
    stream.isatty = lambda: False  # type: ignore[method-assign]
    return stream
