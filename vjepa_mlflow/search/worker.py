"""What a worker process of a sweep does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from vjepa_mlflow import model, search
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.compilations import own_compilations
from vjepa_mlflow.files.temporary import lend_to_libraries, own_temporaries
from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.interrupts import gentle_interrupts
from vjepa_mlflow.runtime.workers import worker_processes
from vjepa_mlflow.search.assignment import Assignment
from vjepa_mlflow.terminal.messages import messages_shown
from vjepa_mlflow.terminal.outputs import outlast_readers

PAUSE = 0.2
SECONDS_TO_NOTE = 3
"""How long a worker may take that works for nobody any more."""


def work(channel: Channel, assignment: Assignment) -> None:
    """What a worker process does from its start to its end.

    Args:
        channel: to the process that started it.
        assignment: what it is to do.
    """
    may_begin = threading.Event()
    threading.Thread(target=_listen, args=(channel, may_begin), daemon=True).start()
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ["LOCAL_WORLD_SIZE"] = str(assignment.share.world_size)
    lend_to_libraries()
    outlast_readers()
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115, it is this process's until its end
    sys.stderr = _no_terminal(sys.stderr)
    end = ""
    try:
        with messages_shown(), own_temporaries(), own_compilations(), worker_processes():
            _encode_and_run_trials(assignment, channel, may_begin)
    except KeyboardInterrupt:
        end = "it was interrupted"
    except UserError as error:
        end = one_line(error)
    except BaseException as error:
        end = f"{type(error).__name__}: {one_line(error)}"
        raise
    finally:
        channel.send(("end", end))


def _listen(channel: Channel, may_begin: threading.Event) -> None:
    """Waits for the message of the process that this one works for, and ends this one with it.

    Its trial is not to blame: there is some time to note that.
    """
    with suppress(EOFError):
        while True:
            channel.receive()
            may_begin.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_NOTE)
    os._exit(1)


def _encode_and_run_trials(assignment: Assignment, channel: Channel, may_begin: threading.Event) -> None:
    """Encodes a share, and takes trials once the others have done so as well."""
    import mlflow

    mlflow.set_tracking_uri(assignment.tracking_uri)
    shared = search.SharedStudy(assignment.storage, assignment.study, tells=False)
    shared.hold(assignment.run_id)
    with (
        assignment.setups(shared) as setups,
        model.cpu_threads(thread_count(processes=assignment.share.world_size)),
    ):
        setups.encode(assignment.encoded)
        with gentle_interrupts() as stopping, shared.answering():
            channel.send(("has_encoded", True))
            while not may_begin.is_set() and not stopping():
                time.sleep(PAUSE)
            assignment.runner(shared, setups, stopping=stopping).work()


def _no_terminal(stream: TextIO) -> TextIO:
    """The same stream, without progress bars, of which the first process shows enough."""
    stream.isatty = lambda: False  # type: ignore[method-assign]
    return stream
