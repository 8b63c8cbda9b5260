"""Servers that do not answer, each in its own way: told of in a line, and given up in a sentence."""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import mlflow
import pytest
from sqlalchemy.exc import OperationalError

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import first_answer, wake_tracking

Answering = Callable[[socket.socket], None]


def say(head: str, body: str = "") -> Answering:
    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(
            f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )

    return answer


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b" ")
        time.sleep(0.05)


def say_nothing(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    time.sleep(30)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answering], str]]:
    """Starts a server that answers each connection so, and makes it the tracking server."""
    monkeypatch.setattr(first_answer, "SAID_AFTER", 0.3)
    monkeypatch.setattr(first_answer, "PATIENCE", 1.0)
    monkeypatch.setattr(first_answer, "PAUSE", 0.1)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept(answer: Answering) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=handle, args=(listener.accept()[0], answer), daemon=True).start()

    def handle(connection: socket.socket, answer: Answering) -> None:
        with suppress(OSError), connection:
            answer(connection)

    def start(answer: Answering) -> str:
        threading.Thread(target=accept, args=(answer,), daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        mlflow.set_tracking_uri(address)
        return address

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (say("429 Too Many Requests"), "429"),
        (say("503 Service Unavailable", "<html>"), "503"),
        (say("503 Service Unavailable", '{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}'), "503"),
        (say_nothing, ""),
        (drip, ""),
    ],
    ids=["429", "503", "503 in JSON", "nothing", "a byte now and then"],
)
def test_a_silent_server_is_told_of_soon_and_given_up_in_the_end(
    tracking: str, serve: Callable[[Answering], str], capsys: pytest.CaptureFixture[str], answer: Answering, why: str
) -> None:
    address = serve(answer)
    began = time.monotonic()
    with pytest.raises(UserError, match=f"^tracking URI {address}: it does not answer: none within 1 s") as refused:
        wake_tracking()
    assert 1 <= time.monotonic() - began < 10
    assert why in str(refused.value)
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"Tracking URI {address}: waiting for an answer")
    assert warning.endswith("for up to 1 s")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (say("500 Internal Server Error", "a fault"), "it does not answer as one .*500.*: expected a tracking server"),
        (say("404 Not Found", "<html>another program's</html>"), "it does not answer as one .*404"),
        (say("200 OK", "<html>a login page</html>"), "it does not answer as one .*JSON"),
        (say("401 Unauthorized", "no"), "it does not let this user in .*401.*: expected MLFLOW_TRACKING_USERNAME"),
    ],
    ids=["500", "404", "a page", "401"],
)
def test_an_answer_that_is_none_of_a_tracking_server_is_told_at_once(
    tracking: str,
    serve: Callable[[Answering], str],
    monkeypatch: pytest.MonkeyPatch,
    answer: Answering,
    expected: str,
) -> None:
    address = serve(answer)
    monkeypatch.setattr(first_answer, "PATIENCE", 20.0)
    began = time.monotonic()
    with pytest.raises(UserError, match=f"^tracking URI {address}: {expected}"):
        wake_tracking()
    assert time.monotonic() - began < 10


def test_a_server_that_comes_up_meanwhile_is_waited_for(tracking: str, serve: Callable[[Answering], str]) -> None:
    answers = iter(
        [say("503 Service Unavailable"), say("503 Service Unavailable"), say("200 OK", '{"experiments": []}')]
    )
    serve(lambda connection: next(answers)(connection))
    wake_tracking()


def test_a_database_that_is_away_is_told_with_the_reason(
    tracking: str, serve: Callable[[Answering], str], capfd: pytest.CaptureFixture[str]
) -> None:
    mlflow.set_tracking_uri("postgresql://ann:hunter2@127.0.0.1:1/mlflow")
    with pytest.raises(
        UserError, match=r"^tracking URI postgresql://ann@127\.0\.0\.1:1/mlflow: it does not answer: none"
    ):
        wake_tracking()
    assert "hunter2" not in capfd.readouterr().err


@pytest.fixture
def nobody() -> Iterator[Callable[[Callable[[], None]], str]]:
    """Does something as a user who may write nothing, in another process, and returns what was said."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")

    def do(action: Callable[[], None]) -> str:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.setgroups([])
            os.setuid(65534)
            try:
                action()
            except BaseException as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as pipe:
            return pipe.read()

    return do


def test_a_folder_that_cannot_be_written_is_told_at_once(
    tracking: str, tmp_path: Path, nobody: Callable[[Callable[[], None]], str]
) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o055)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    began = time.monotonic()
    message = nobody(wake_tracking)
    assert message.startswith(
        f"tracking URI sqlite:///{tmp_path}/mlflow.db: {tmp_path} cannot be written: expected a file"
    )
    assert time.monotonic() - began < 5


def test_a_folder_that_is_not_there_is_told(tracking: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/no/mlflow.db")
    with pytest.raises(UserError, match=f"no such folder as {tmp_path}/no: expected one"):
        wake_tracking()


@pytest.mark.parametrize("left", [9, 25, 44], ids=lambda left: f"{left} tables")
def test_tables_that_a_killed_process_left_half_made_are_told_with_what_to_do(
    tracking: str, tmp_path: Path, left: int
) -> None:
    with closing(sqlite3.connect(tracking.removeprefix("sqlite:///"))) as whole:
        made = [sql for (sql,) in whole.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND sql NOT NULL")]
    file = tmp_path / "half.db"
    with closing(sqlite3.connect(file)) as half, half:
        for sql in made[:left]:
            if "sqlite_sequence" not in sql and "alembic_version" not in sql:
                half.execute(sql)
    mlflow.set_tracking_uri(f"sqlite:///{file}")
    with pytest.raises(UserError, match=f"half made .*expected a whole database; where nothing was .*, delete {file}"):
        wake_tracking()


def test_a_file_that_is_no_database_is_told(tracking: str, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not one of SQLite's" * 100)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(UserError, match=r"it does not answer as one .*not a database.*expected a tracking server"):
        wake_tracking()


def test_a_file_that_another_process_has_locked_is_not_waited_for_without_end(
    tracking: str, serve: Callable[[Answering], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> None:
        raise OperationalError("", {}, Exception("database is locked"))

    with pytest.raises(UserError, match=r"a file: it does not answer: none within 1 s .*locked"):
        first_answer.wait_for(ask, "a file", bounded=False)
