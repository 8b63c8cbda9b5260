"""How processes of ours start, and that none outlives the one that it works for."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vjepa_mlflow.about import FOLDER
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.runtime.channel import Channel

SECONDS_TO_END = 5
"""That a server may take to end those that it has started, once it is idle."""


class ForkServer:
    """A process of our own from which others are forked: it never held a GPU, a decoder or a lock, which may hang them.

    Unlike those of `multiprocessing`, its children may be started by daemons, need nothing of the running script, and
    end when this is closed or the process that made it is gone. None of them hears what a terminal sends to all.

    Args:
        preloaded: modules that its children have at once.
        environment: variables that its children, and it, have beside those of this process.
    """

    def __init__(self, *preloaded: str, **environment: str) -> None:
        self._command = [sys.executable, "-m", "vjepa_mlflow.runtime.fork_server", *preloaded]
        self._environment = environment
        self._lock = threading.RLock()
        self._asked = 0
        self._begin()

    def _begin(self) -> None:
        self._requests, theirs = Channel.pair()
        self._process = subprocess.Popen(
            self._command,
            stdin=theirs.fileno(),
            env=importable({**os.environ, **self._environment}),
            cwd="/",  # where no file of the user's has the name of a module
            start_new_session=True,
        )
        theirs.let_go()

    def start(
        self, function: Callable[..., Any], *arguments: Any, surroundings: "Surroundings | None" = None
    ) -> "Started":
        """Starts a process. Where the server was killed, another one does it.

        Args:
            function: of a module; it is called there with its end of a channel and the arguments. When it returns,
                the process ends, and the channel with it.
            arguments: what can be pickled.
            surroundings: that it works in; None: those of the server, which are nobody's.

        Raises:
            EOFError: the server does not start.
        """
        ours, theirs = Channel.pair()
        try:
            process_id = self._ask_for_a_fork(theirs)
        finally:
            theirs.let_go()
        ours.send(surroundings)  # by itself, since they say where the function is
        ours.send((function, arguments))
        return Started(ours, process_id)

    def _ask_for_a_fork(self, theirs: Channel) -> int:
        """Returns the id of the process that has the other end of a channel."""
        with self._lock:
            try:
                return self._ask(theirs)
            except EOFError:
                self.close()
                self._begin()
                return self._ask(theirs)

    def _ask(self, theirs: Channel) -> int:
        self._asked += 1
        try:
            self._requests.send(self._asked, theirs.fileno())
        except BrokenPipeError as error:
            raise EOFError("the server is gone") from error
        while True:
            number, process_id = self._requests.receive()[0]
            if number == self._asked:  # else it is what an interrupted call has asked for
                return int(process_id)

    def close(self) -> None:
        """Ends the server and all that it has started, which it waits for: nobody else may do so."""
        self._requests.let_go()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_END if self._asked else 0)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Started(NamedTuple):
    """A process that was started, and the way to it."""

    channel: Channel
    process_id: int


@dataclass(frozen=True)
class Surroundings:
    """What a process would have from the one that it works for, had that forked it."""

    environment: dict[str, str]
    folder: str
    module_path: list[str]

    @classmethod
    def of_this_process(cls) -> "Surroundings":
        """The environment, the folder and the module path of this one.

        Raises:
            UserError: its folder is gone.
        """
        try:
            return cls(dict(os.environ), str(Path.cwd()), sys.path)
        except FileNotFoundError:
            raise UserError("the working directory was deleted: expected one that is there") from None

    def enter(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.path[:] = self.module_path


def importable(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Python finds this package, wherever this process has it from, in any folder."""
    paths = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    ours = str(FOLDER.parent)
    return {**environment, "PYTHONPATH": os.pathsep.join([ours, *map(os.path.abspath, paths)])}
