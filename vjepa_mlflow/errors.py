"""What the user is told in one line: an error to put right."""

import errno
import os

from vjepa_mlflow.secrets import without_secrets

LONGEST = 600
"""Characters of what a library says: some list every file of a folder."""

DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What systems say where a right is missing, and where room is."""


class UserError(Exception):
    """A fault in what the user gave: its message is one line naming the value and what was expected.

    The command line prints the message without a traceback and exits with status 2; a run in progress is
    marked FAILED with the message as a tag.
    """


def one_line(error: BaseException) -> str:
    """The first line of an error's message, without passwords and its middle if it is long; its kind if it has none."""
    lines = str(error).strip().splitlines()
    line = without_secrets(lines[0]) if lines else type(error).__name__
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def is_full(error: BaseException) -> bool:
    """Whether a disk is full, also where a library has its own words around those of the system."""
    return any(os.strerror(number) in str(error) for number in FULL)


def expected(error: OSError) -> str:
    """What would have been needed for a file, or a folder, to be written."""
    if error.errno in DENIED:
        return "the right to write there"
    return "room" if error.errno in FULL else "a folder that can be written to"


def reason(error: BaseException) -> str:
    """The first line of what an error came from in the end: for those that tell their whole story in a line."""
    seen = [error]  # where errors are raised again, they may come from each other
    while (inner := seen[-1].__cause__ or seen[-1].__context__) is not None and inner not in seen:
        seen.append(inner)
    return one_line(seen[-1])


def printable(text: str) -> str:
    """A text on one line, without passwords, and without what a terminal would obey: file names may hold anything."""
    shown = without_secrets(text)
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown)


def printable_lines(text: str) -> str:
    """A text of several lines, each as `printable` has it."""
    return "\n".join(map(printable, text.split("\n")))
