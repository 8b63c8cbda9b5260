"""What a command prints, while its reader may go before it has done its work: of a pipe, at a terminal, a full disk."""

import errno
import io
import os
import sys
from typing import Any

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.terminal.bars import Bar

READER_GONE = 141
"""The exit status of a command whose result nobody reads: what a shell says of a program that died of SIGPIPE."""

_lost: dict[int, OSError] = {}
"""Why a descriptor has taken nothing any more."""


class _Output(io.FileIO):
    """A descriptor that leads nowhere from the moment on at which it takes nothing any more.

    That is a change of the descriptor, so it holds for all who write to it: other streams, libraries, child processes.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _lost[self.fileno()] = error
            _lead_nowhere(self.fileno())
            return super().write(data)


def outlast_readers() -> None:
    """Has this process drop what it prints once nobody takes it, for work whose result lies elsewhere."""
    for descriptor in range(3):
        if not _is_open(descriptor):  # and the next file to be opened would get its number
            _lead_nowhere(descriptor)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):  # else somebody takes it before it gets to the descriptor
            setattr(sys, name, _stream(getattr(sys, name), descriptor))


def print_result(text: str) -> None:
    """Prints what a command is run for.

    Raises:
        SystemExit: the reader has gone.
        UserError: it cannot be written for another reason.
    """
    Bar.write(text)
    sys.stdout.flush()
    error = _lost.get(1)
    if error is None:
        return
    if error.errno == errno.EPIPE:
        raise SystemExit(READER_GONE)
    raise UserError(f"stdout: {error.strerror}: expected it to take the result")


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _lead_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, descriptor)
    if nowhere == descriptor:
        os.set_inheritable(descriptor, True)
    else:
        os.close(nowhere)


def _stream(original: io.TextIOWrapper | None, descriptor: int) -> io.TextIOWrapper:
    """One like that of Python, which has none for a descriptor that was closed when it started."""
    output = _Output(descriptor, "w", closefd=False)
    if original is None:
        return io.TextIOWrapper(io.BufferedWriter(output), errors="backslashreplace")
    original.flush()
    return io.TextIOWrapper(
        output if original.write_through else io.BufferedWriter(output),
        encoding=original.encoding,
        errors="backslashreplace",  # what a terminal, or a locale, has no letters for is no reason to fail
        newline="\n",
        line_buffering=original.line_buffering,
        write_through=original.write_through,
    )
