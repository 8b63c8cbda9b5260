"""Whose process a model is loaded in, as far as that makes a difference. Imports nothing that takes long."""

import sys

from vjepa_mlflow.internals.mlflow_private import SERVER_MODULE


def is_server() -> bool:
    """Whether this process is MLflow's scoring server, which is just loading its model."""
    return SERVER_MODULE in sys.modules


def task_cpus() -> int | None:
    """The CPUs of the Spark task that this process works for; None where it works for none."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark import TaskContext

    context = TaskContext.get()
    return None if context is None else context.cpus()
