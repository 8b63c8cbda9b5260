"""The folder for what can always be made again."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """`$VJEPA_MLFLOW_CACHE`, or `vjepa-mlflow` in the user's cache folder."""
    named = os.environ.get("VJEPA_MLFLOW_CACHE")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named).expanduser() if named else user_cache / "vjepa-mlflow"


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """Returns the cached folder `name`, built on first use.

    The folder appears in one rename when it is complete, so an interrupted or concurrent build leaves nothing half
    done.
    """
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        complete = Path(temporary) / name
        complete.mkdir()
        build(complete)
        try:
            complete.rename(folder)
        except OSError:
            if not folder.is_dir():  # not another process that was faster
                raise
    return folder
