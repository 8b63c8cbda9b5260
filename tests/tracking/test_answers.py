"""What errors mean: each as it is raised where it can be had here, by the client itself."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import mlflow
import pytest
import requests
import sqlalchemy
import urllib3
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, ErrorCode
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from vjepa_mlflow.tracking.answers import BY_CODE, BY_STATUS, UNTOLD, Answer, describe, understand


def raised(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011, whatever it is
        action()
    return caught.value


@pytest.mark.parametrize("code", [name for name in ErrorCode.keys() if name not in UNTOLD])  # noqa: SIM118
def test_a_code_tells_what_it_means_from_a_server_and_from_a_database(code: str) -> None:
    expected = BY_CODE.get(code, Answer.REFUSAL)
    assert understand(RestException({"error_code": code, "message": "so"})) is expected
    assert understand(MlflowException("so", ErrorCode.Value(code))) is expected


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Answers every request with a status and a body."""

    class Handler(BaseHTTPRequestHandler):
        status, body = 500, b""

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(self.status)
            self.send_header("Content-Length", str(len(self.body)))
            self.end_headers()
            self.wfile.write(self.body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()

        def answering(status: int, body: bytes) -> str:
            Handler.status, Handler.body = status, body
            return f"http://127.0.0.1:{http.server_port}"

        yield answering
        http.shutdown()


@pytest.mark.parametrize("status", [*BY_STATUS, 400, 404, 409, 413, 418, 500, 501])
def test_a_status_tells_where_no_code_does_after_all_retries_too(server: Callable[..., str], status: int) -> None:
    address = server(status, b"<html>a proxy's</html>")
    expected = BY_STATUS.get(status, Answer.REFUSAL)
    client = MlflowClient(address)
    assert understand(raised(lambda: client.get_run("0" * 32))) is expected
    artifacts = get_artifact_repository(f"{address}/api/2.0/mlflow-artifacts/artifacts/1")
    assert understand(raised(lambda: artifacts.delete_artifacts("a"))) is expected


@pytest.mark.parametrize("body", [b'{"error_code": "INTERNAL_ERROR", "message": "a fault"}', b"a fault"])
def test_a_servers_fault_is_no_silence(server: Callable[..., str], body: bytes) -> None:
    client = MlflowClient(server(500, body))
    assert understand(raised(lambda: client.get_run("0" * 32))) is Answer.REFUSAL


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        for address in (
            "http://127.0.0.1:1",
            "http://no-such-host.invalid",
            f"http://127.0.0.1:{deaf.getsockname()[1]}",
        ):
            client = MlflowClient(address)
            assert understand(raised(lambda client=client: client.get_run("0" * 32))) is Answer.TRANSIENT


def _from(cause: Exception, code: int) -> MlflowException:
    error = MlflowException("wrapped", code)
    error.__cause__ = cause
    return error


class StoreError(Exception):
    """As clients of artifact stores have them: their own, with what is known of the answer."""

    def __init__(self, **attributes: object):
        super().__init__("of a store")
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (_from(sqlalchemy.exc.OperationalError("", {}, Exception("away")), BAD_REQUEST), Answer.TRANSIENT),
        (
            _from(sqlalchemy.exc.OperationalError("", {}, Exception("password authentication failed")), BAD_REQUEST),
            Answer.LOCKED_OUT,
        ),
        (
            _from(sqlalchemy.exc.OperationalError("", "password", Exception("database is locked")), BAD_REQUEST),
            Answer.TRANSIENT,
        ),
        (
            _from(sqlalchemy.exc.OperationalError("", {}, Exception("no such table: metrics")), BAD_REQUEST),
            Answer.REFUSAL,
        ),
        (
            _from(
                sqlalchemy.exc.OperationalError("", {}, Exception("attempt to write a readonly database")), BAD_REQUEST
            ),
            Answer.REFUSAL,
        ),
        (
            _from(sqlalchemy.exc.ProgrammingError("", {}, Exception("permission denied for table runs")), BAD_REQUEST),
            Answer.FORBIDDEN,
        ),
        (_from(sqlalchemy.exc.InterfaceError("", {}, Exception("closed")), BAD_REQUEST), Answer.TRANSIENT),
        (_from(sqlalchemy.exc.TimeoutError("pool"), BAD_REQUEST), Answer.TRANSIENT),
        (
            _from(sqlalchemy.exc.DBAPIError("", {}, Exception(), connection_invalidated=True), BAD_REQUEST),
            Answer.TRANSIENT,
        ),
        (
            _from(sqlalchemy.exc.IntegrityError("", {}, Exception("'password' is there twice")), BAD_REQUEST),
            Answer.REFUSAL,
        ),
        (_from(sqlalchemy.exc.DataError("", {}, Exception("too long")), BAD_REQUEST), Answer.REFUSAL),
        (StoreError(response={"ResponseMetadata": {"HTTPStatusCode": 503}}), Answer.TRANSIENT),  # as botocore
        (StoreError(response={"ResponseMetadata": {"HTTPStatusCode": 403}}), Answer.FORBIDDEN),
        (StoreError(status_code=401), Answer.LOCKED_OUT),  # as azure.core
        (StoreError(code=429), Answer.TRANSIENT),  # as google.api_core
        (_from(urllib3.exceptions.ProtocolError("broken"), BAD_REQUEST), Answer.TRANSIENT),
        (requests.exceptions.ChunkedEncodingError(), Answer.TRANSIENT),
        (PermissionError(13, "Permission denied"), Answer.FORBIDDEN),
        (OSError(28, "No space left on device"), Answer.REFUSAL),
        (MlflowException("no cause, and no code"), Answer.REFUSAL),
        (KeyError("nothing that anybody knows"), Answer.REFUSAL),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_the_cause_tells_where_the_code_does_not(error: Exception, answer: Answer) -> None:
    assert understand(error) is answer


def test_an_error_that_was_raised_for_another_reason_is_judged_by_itself() -> None:
    def fail() -> None:
        try:
            raise ConnectionError
        except ConnectionError:
            raise ValueError("of our own") from None

    assert understand(raised(fail)) is Answer.REFUSAL


def test_what_was_deleted_is_said_to_be(tracking: str) -> None:
    client = MlflowClient()
    run = client.create_run(client.create_experiment("walks")).info
    refusal = RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"})
    assert describe(refusal, run.run_id) == "INVALID_PARAMETER_VALUE: no"
    client.delete_run(run.run_id)
    refusal = raised(lambda: client.set_tag(run.run_id, "a", "b"))
    assert understand(refusal) is Answer.REFUSAL
    assert describe(refusal, run.run_id) == f"run {run.run_id} was deleted; mlflow runs restore --run-id {run.run_id}"
    client.delete_experiment(run.experiment_id)
    assert describe(refusal, run.run_id).startswith(f"experiment {run.experiment_id} was deleted; mlflow experiments")
    gone = raised(lambda: client.get_run("0" * 32))
    assert describe(gone, "0" * 32) == f"run {'0' * 32} was deleted"
    assert mlflow.get_tracking_uri() == tracking
