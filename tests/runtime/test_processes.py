"""Processes that are forked from a server of ours."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers import wait_until
from process_work import evaluate

from vjepa_mlflow.about import FOLDER
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.runtime.processes import ForkServer, Surroundings, importable


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer("decimal", VJEPA_MLFLOW_TESTED="yes")
    yield server
    server.close()


def answer(server: ForkServer, expression: str, surroundings: Surroundings | None = None) -> object:
    surroundings = surroundings or Surroundings({**os.environ}, "/", sys.path)  # in which this module is found
    channel = server.start(evaluate, expression, surroundings=surroundings).channel
    try:
        return channel.receive()[0]
    finally:
        channel.close()


def test_a_process_has_what_was_preloaded_and_is_in_a_session_of_its_own(server: ForkServer) -> None:
    preloaded, folder, session = answer(server, "('decimal' in sys.modules, os.getcwd(), os.getsid(0))")  # type: ignore[misc]
    assert preloaded
    assert folder == "/"
    assert session != os.getsid(0)


def test_a_process_works_in_the_surroundings_that_it_is_given(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VJEPA_MLFLOW_NEW", "new")
    expression = "(os.getcwd(), os.environ.get('VJEPA_MLFLOW_NEW'), os.environ.get('VJEPA_MLFLOW_TESTED'), sys.path)"
    assert answer(server, expression, Surroundings.of_this_process()) == (str(tmp_path), "new", None, sys.path)


def test_surroundings_that_are_gone_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="the working directory was deleted"):
        Surroundings.of_this_process()


def test_all_end_with_the_server_and_one_that_was_killed_is_replaced() -> None:
    server = ForkServer()
    try:
        killed = server._process
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        surroundings = Surroundings.of_this_process()
        started = server.start(evaluate, "os.getppid()", surroundings=surroundings)
        assert started.channel.receive()[0] == server._process.pid != killed.pid
        assert psutil.pid_exists(started.process_id)
    finally:
        server.close()
    wait_until(lambda: not psutil.pid_exists(started.process_id), seconds=5)
    assert server._process.returncode is not None


def test_this_package_is_found_first_and_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment = importable({"PYTHONPATH": f"here{os.pathsep}{os.pathsep}/there", "OTHER": "x"})
    paths = [str(FOLDER.parent), str(tmp_path / "here"), "/there"]
    assert environment == {"PYTHONPATH": os.pathsep.join(paths), "OTHER": "x"}
    assert importable({})["PYTHONPATH"] == str(FOLDER.parent)
