"""What this package tells while it works, as records of loggers below `vjepa_mlflow`: a program shows them as it likes.

Those of level INFO say how the work goes, warnings what goes otherwise than expected: each one line, without passwords.
What is our fault has its traceback. Where nobody has given the package's logger a handler, commands show both, see
`terminal.messages`.
"""

import logging
from collections.abc import MutableMapping
from typing import Any

from vjepa_mlflow.errors import printable

PACKAGE = "vjepa_mlflow"


class _OneLine(logging.LoggerAdapter):
    """Has a file's name, or a library's sentence, never break a line, steer a terminal or tell a password."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        return printable(str(msg)), kwargs


def get_logger(name: str) -> _OneLine:
    """The logger of a module, by its `__name__`."""
    return _OneLine(logging.getLogger(name), {})
