"""What a client of MLflow's scoring server may send, and what it reads when its request is at fault."""

import json
import logging
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, ErrorCode

SERVER_MODULE = "mlflow.pyfunc.scoring_server.app"
OUR_FAULT = "The model failed on this request; its log says why."
LONGEST_SENTENCE = 500

_ECHO = re.compile(r"^Failed to (?:predict data|enforce schema).*Error: ", re.DOTALL)
_ADVICE = re.compile(r"\. IMPORTANT: The MLflow Model scoring protocol has changed.*", re.DOTALL)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)


class PredictionError(MlflowException):
    """One sentence for the client; a fault of the request is answered 400, one of the model 500."""

    def __init__(self, sentence: str, error_code: int = INVALID_PARAMETER_VALUE):
        super().__init__(sentence, error_code=error_code)


def guard_server(*, max_request_bytes: int) -> None:
    """Puts a `Guard` before the scoring server, if this process is one that is just loading its model.

    The server makes its application once the model is loaded, and has no other place for a model to say how.

    Args:
        max_request_bytes: of a request's body.
    """
    if SERVER_MODULE not in sys.modules:
        return
    import fastapi
    from starlette.middleware import Middleware

    class GuardedApp(fastapi.FastAPI):
        def __init__(self, **options: Any):
            super().__init__(**options, middleware=[Middleware(Guard, max_request_bytes=max_request_bytes)])

    fastapi.FastAPI = GuardedApp  # type: ignore[misc]


class Guard:
    """Refuses requests that are too large, and answers all faults with one sentence.

    The server has no limit of its own, and refuses some requests before it calls the model. Its answers then hold stack
    traces, the request's whole data, or are 500 for what the client did wrong.

    Args:
        app: the scoring server's, in ASGI.
        max_request_bytes: of a request's body.
    """

    def __init__(self, app: App, *, max_request_bytes: int):
        self._app = app
        self._max_bytes = max_request_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/invocations"):
            await self._app(scope, receive, send)
            return
        body = await _read(receive, at_most=self._max_bytes)
        if body is None:
            await _refuse(
                send, f"The request is too large: expected at most {self._max_bytes} bytes (max_request_bytes)."
            )
        elif b"content-type" not in dict(scope["headers"]):
            await _refuse(send, "Expected a header Content-Type, such as application/json.")
        else:
            answer = _Answer()
            try:
                await self._app(scope, _replay(body, receive), answer.take)
            except (MemoryError, OSError):
                logger.exception("A request failed")
                await _refuse(send, OUR_FAULT, INTERNAL_ERROR)
            except Exception as error:  # the model raises nothing but what MLflow answers, so this is from parsing
                logger.warning("A request could not be parsed: %s", type(error).__name__)
                await _refuse(send, "The request cannot be parsed: expected a form that MLflow's scoring server takes.")
            else:
                await answer.send(send)


async def _read(receive: Receive, *, at_most: int) -> bytes | None:
    """Reads a request's body; None if it is larger, or the client is gone.

    What is larger is taken to its end all the same, since few clients listen earlier.
    """
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= at_most:
            chunks.append(chunk)
        else:
            chunks.clear()
        more = message.get("more_body", False)
    return b"".join(chunks) if size <= at_most else None


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


class _Answer:
    """What the server answers, held back until it is known to be fit for a client."""

    def __init__(self) -> None:
        self._messages: list[Message] = []

    async def take(self, message: Message) -> None:
        self._messages.append(message)

    async def send(self, send: Send) -> None:
        if not self._messages:  # the client is gone
            return
        status = self._messages[0]["status"]
        if status < HTTPStatus.BAD_REQUEST:
            for message in self._messages:
                await send(message)
            return
        sentence = _sentence(b"".join(message.get("body", b"") for message in self._messages[1:]))
        ours = sentence == OUR_FAULT
        await _refuse(send, sentence, INTERNAL_ERROR if ours else INVALID_PARAMETER_VALUE)


def _sentence(body: bytes) -> str:
    """The first line of what is said to be wrong, without the request that it repeats and advice on MLflow 1."""
    text = body.decode(errors="replace")
    with suppress(ValueError, TypeError, KeyError):  # some answers are the plain sentence
        text = json.loads(text)["message"]
    lines = _ADVICE.sub(".", _ECHO.sub("", text)).strip().splitlines()
    return lines[0][:LONGEST_SENTENCE] if lines else "The request cannot be served."


async def _refuse(send: Send, sentence: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
    error = MlflowException(sentence, error_code=error_code)
    body = json.dumps({"error_code": ErrorCode.Name(error_code), "message": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.get_http_status_code(), "headers": headers})
    await send({"type": "http.response.body", "body": body})
