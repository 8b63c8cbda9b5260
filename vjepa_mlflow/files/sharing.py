"""Folders that users share: what is made in one is open to its group as the folder is, whatever the umask.

Such a folder is writable for its group and gives it to what is made in it (setgid). Everywhere else the umask decides,
as for any program.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from vjepa_mlflow.files.temporary import hold

_FOLDERS, _FILES = 0o2777, 0o666
"""Of a folder's permissions, those of folders and of files that are made in it."""


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, for whoever shares the one that is there.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    with suppress(FileExistsError):
        make_folder(folder.parent)
    shared = _shared_mode(folder.parent)
    if shared is None:
        folder.mkdir(exist_ok=True)
    else:
        _make_as_a_whole(folder, shared & _FOLDERS)


def _make_as_a_whole(folder: Path, mode: int) -> None:
    """Makes a folder that nobody sees before it has its permissions."""
    made, lock = hold(folder.parent)
    try:
        made.chmod(mode)
        made.rename(folder)
    except OSError:
        with suppress(OSError):
            made.rmdir()
        if not folder.is_dir():  # which another process was faster to make, and to put something in
            raise
    finally:
        os.close(lock)


def open_to_sharers(file: int, folder: Path) -> None:
    """Gives a new file, by its descriptor, the permissions that its folder asks for.

    Raises:
        OSError: the folder has gone.
    """
    shared = _shared_mode(folder)
    if shared is not None:
        os.fchmod(file, shared & _FILES)


def _shared_mode(folder: Path) -> int | None:
    """The permissions of a folder that is shared; None for others."""
    mode = folder.stat().st_mode
    return mode if mode & stat.S_ISGID and mode & stat.S_IWGRP else None
