"""What a run was made with."""

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from vjepa_mlflow.about import VERSION

LIBRARIES = ("torch", "torchvision", "transformers", "mlflow", "optuna", "av")


@cache
def library_versions() -> Mapping[str, str]:
    """Versions by parameter name, such as `version_torch`."""
    own = {"version_python": platform.python_version(), "version_vjepa_mlflow": VERSION}
    return own | {f"version_{name}": version(name) for name in LIBRARIES}
