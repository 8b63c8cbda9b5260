"""What a run was made with."""

import platform

import mlflow
import torch

from vjepa_mlflow.tracking import library_versions


def test_versions_are_those_of_what_runs() -> None:
    versions = library_versions()
    assert versions["version_python"] == platform.python_version()
    assert versions["version_mlflow"] == mlflow.__version__
    assert torch.__version__.startswith(versions["version_torch"].partition("+")[0])
    assert versions["version_vjepa_mlflow"]
    assert all(name.startswith("version_") for name in versions)
