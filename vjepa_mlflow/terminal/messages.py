"""The package's log records on the terminal, beside progress bars."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vjepa_mlflow.logs import PACKAGE
from vjepa_mlflow.terminal.bars import Bar


class _TerminalHandler(logging.Handler):
    """How the work goes is printed to stdout, and what goes otherwise than expected to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        if stream is None:  # as in a program without a terminal
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        message = self.format(record).encode(encoding, "backslashreplace").decode(encoding)
        with suppress(OSError, ValueError):  # of an output that is gone
            Bar.write(message, file=stream)
            stream.flush()


@contextmanager
def messages_shown() -> Iterator[None]:
    """Shows in the block what the package's loggers are told, unless a program has given that logger a handler."""
    package = logging.getLogger(PACKAGE)
    if package.handlers:
        yield
        return
    before = package.level, package.propagate
    handler = _TerminalHandler()
    package.addHandler(handler)
    package.setLevel(package.level or logging.INFO)
    package.propagate = False  # or a program that shows all records would show them twice
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(before[0])
        package.propagate = before[1]
