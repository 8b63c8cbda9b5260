"""The program that processes of ours are forked from.

    python -m vjepa_mlflow.runtime.fork_server MODULE ... < SOCKET

It imports the modules, which its children so have at once, and forks a child for each message that comes from the Unix
socket. The child does what it is told by way of the socket that came with the message. When nobody is at the other end
any more, the program ends all its children, and itself.
"""

import atexit
import gc
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from vjepa_mlflow.runtime.channel import Channel

SECONDS_TO_END = 4
"""For which children may note what becomes of their work."""

PAUSE = 0.01


def main(modules: Sequence[str]) -> None:
    atexit.register(os._exit, 0)  # before all others, so that it is called last: Python would free each object
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # what all of them have, so that it stays in memory once
    children = _Children()
    requests = Channel(socket.socket(fileno=os.dup(sys.stdin.fileno())))
    _put_nothing_in_place_of_input()
    with suppress(EOFError, BrokenPipeError):
        while True:
            number, (descriptor,) = requests.receive(descriptors=1)
            child = os.fork()
            if not child:
                _work(descriptor)
            children.add(child)
            os.close(descriptor)
            requests.send((number, child))
    children.end()


class _Children:
    """Those that run, or have not been waited for yet; none stays behind as a zombie."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        signal.signal(signal.SIGCHLD, lambda *_: self._forget_the_dead())

    def add(self, child: int) -> None:
        self._running.add(child)
        self._forget_the_dead()  # it may have ended before

    def end(self) -> None:
        """Ends them, and waits for them."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._send(signal.SIGTERM)  # of which those that read videos die
        self._send(signal.SIGCONT)  # those that are stopped hear of it only then
        deadline = time.monotonic() + SECONDS_TO_END
        while self._running and time.monotonic() < deadline:
            time.sleep(PAUSE)
            self._forget_the_dead()
        self._send(signal.SIGKILL)
        for child in self._running:
            os.waitpid(child, 0)

    def _send(self, number: signal.Signals) -> None:
        for child in self._running:
            os.kill(child, number)

    def _forget_the_dead(self) -> None:
        for child in list(self._running):
            with suppress(ChildProcessError):  # the signal came while this was looking
                if os.waitpid(child, os.WNOHANG)[0]:
                    self._running.discard(child)


def _put_nothing_in_place_of_input() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)


def _work(descriptor: int) -> None:
    """What a child does, to its end."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        channel = Channel(socket.socket(fileno=descriptor))
        if (surroundings := channel.receive()[0]) is not None:
            surroundings.enter()
        function, arguments = channel.receive()[0]
        function(channel, *arguments)
        status = 0
    except (EOFError, BrokenPipeError):  # of whoever started it, and is gone
        pass
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
