"""What is different inside a task of Spark's."""

import sys


def task_cpus() -> int | None:
    """The CPUs of the Spark task that this process works for; None where it works for none."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark import TaskContext

    context = TaskContext.get()
    return None if context is None else context.cpus()
