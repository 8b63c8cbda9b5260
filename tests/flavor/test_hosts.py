"""Whose process a model is loaded in."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from vjepa_mlflow.flavor.hosts import SERVER_MODULE, is_server, task_cpus


def pretend_spark(monkeypatch: pytest.MonkeyPatch, context: object) -> None:
    spark = ModuleType("pyspark")
    spark.TaskContext = SimpleNamespace(get=lambda: context)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyspark", spark)


def test_a_process_is_mlflows_server_once_that_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, SERVER_MODULE, raising=False)
    assert not is_server()
    monkeypatch.setitem(sys.modules, SERVER_MODULE, ModuleType(SERVER_MODULE))
    assert is_server()


def test_without_spark_there_are_no_cpus_of_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pyspark", raising=False)
    assert task_cpus() is None
    assert "pyspark" not in sys.modules


def test_a_task_has_its_cpus_and_sparks_driver_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_spark(monkeypatch, SimpleNamespace(cpus=lambda: 3))
    assert task_cpus() == 3
    pretend_spark(monkeypatch, None)
    assert task_cpus() is None
