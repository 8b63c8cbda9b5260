"""What only the end of a run needs, imported while its heads train: it takes a second and more."""

from contextlib import suppress
from importlib import import_module
from threading import Thread

MODULES = (
    "vjepa_mlflow.evaluation.card",
    "vjepa_mlflow.evaluation.report",
    "vjepa_mlflow.evaluation.results",
    "vjepa_mlflow.evaluation.thumbnails",
)


def import_beside() -> None:
    """Begins to import it, beside what follows."""
    Thread(target=_import, daemon=True).start()


def _import() -> None:
    with suppress(Exception):  # which whoever needs it meets as well
        for module in MODULES:
            import_module(module)
