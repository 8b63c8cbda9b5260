"""Where PyTorch and Triton keep what they compile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vjepa_mlflow.files.cache import own_folder
from vjepa_mlflow.runtime.environment import temporary_environment

INDUCTOR, TRITON = "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"
"""The variables of the environment that say where."""


@contextmanager
def compilations_in(folder: Path, triton: str = "") -> Iterator[None]:
    """Has them keep what they compile in the block in a folder, or Triton in another one, and look for it there."""
    with temporary_environment(INDUCTOR, str(folder)), temporary_environment(TRITON, triton or str(folder / "triton")):
        yield


@contextmanager
def own_compilations() -> Iterator[None]:
    """Has them do so where nobody else may write to, since they run what they find there, pickles included.

    By themselves they take a folder for all users. Where the user names one, that is taken.
    """
    if INDUCTOR in os.environ:  # where Triton's are put, too
        yield
        return
    folder = own_folder("compiled")
    try:
        with compilations_in(folder, triton=os.environ.get(TRITON, "")):
            yield
    finally:
        with suppress(OSError):  # something was compiled
            folder.rmdir()
