"""This package in two files, beside a model, where MLflow finds it: each file of a model is an upload of its own."""

import shutil
import zipfile
from pathlib import Path

from vjepa_mlflow.about import FOLDER
from vjepa_mlflow.model import TINY_FOLDER

CODE_FOLDER = "code"
"""What MLflow puts on Python's path."""

ARCHIVE = "vjepa_mlflow.zip"
STUB = f'''"""Takes its place among the modules with the package of this name in the archive beside it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("{ARCHIVE}")))
del sys.modules[__name__]
import vjepa_mlflow  # noqa: E402, F401
'''

_DATE = (1980, 1, 1, 0, 0, 0)
"""Of all files in the archive, so that the same package makes the same one; it can hold no earlier date."""


def pack(folder: Path) -> None:
    """Writes this package, without the checkpoint in it, into a folder to be put on Python's path."""
    folder.mkdir()
    (folder / "vjepa_mlflow.py").write_text(STUB, encoding="utf-8")
    if FOLDER.parent.is_file():  # this is such a copy
        shutil.copyfile(FOLDER.parent, folder / ARCHIVE)
        return
    with zipfile.ZipFile(folder / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(FOLDER.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and TINY_FOLDER not in path.parents:
                name = zipfile.ZipInfo(str(path.relative_to(FOLDER.parent)), _DATE)
                archive.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
