from helpers import PYPROJECT

import vjepa_mlflow
from vjepa_mlflow.about import FOLDER, VERSION


def test_the_version_stands_once() -> None:
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "vjepa_mlflow.about.VERSION"}
    assert vjepa_mlflow.__version__ == VERSION
    assert (FOLDER / "about.py").is_file()
