"""Requests for predictions, in HTTP, to answers: none holds up another, and together they are kept within bounds."""

import asyncio
import json
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE, ErrorCode

from vjepa_mlflow.flavor.config import ServingConfig
from vjepa_mlflow.flavor.engine import Classification
from vjepa_mlflow.flavor.faults import OUR_FAULT, PredictionError
from vjepa_mlflow.flavor.payloads import Payloads
from vjepa_mlflow.flavor.video_classifier import VideoClassifier
from vjepa_mlflow.runtime.asking import Asker, BusyError
from vjepa_mlflow.runtime.channel import write
from vjepa_mlflow.video import Content, Descriptor

TIMES_LARGEST = 2
"""Bytes of bodies and contents of all requests together, in terms of the largest body that is taken."""

BUSY = "The server has no room for this request beside others: ask again later, or for fewer videos."
RETRY_SECONDS = 1

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)


class Service:
    """Answers requests for a classifier's predictions, each in its turn.

    Args:
        classifier: whose.
        payloads: reads the bodies of requests.
        config: what it puts up with.
    """

    def __init__(self, classifier: VideoClassifier, payloads: Payloads, config: ServingConfig):
        self._classifier, self._payloads = classifier, payloads
        self._engine = classifier.engine()
        self._largest = config.max_request_bytes
        self._room = _Room(TIMES_LARGEST * config.max_request_bytes, self._refuse)
        self._bodies: dict[Asker, Descriptor] = {}

    async def answer(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive, send: Send) -> None:
        """Takes a request and answers it, in ASGI.

        What a client does wrong is answered 400, with one sentence; 503 what there is no room for; and 500 a fault of
        ours, which is logged.
        """
        try:
            with self._visit() as asker:
                rows = await self._predictions(_texts(headers), receive, asker)
        except _GoneError:
            await _refuse(send, "The client is gone.")  # which nobody reads, but servers insist on an answer
        except BusyError:
            await _refuse(send, BUSY, TEMPORARILY_UNAVAILABLE)
        except PredictionError as error:
            await _refuse(send, error.message)
        except Exception:
            logger.exception("A request failed")
            await _refuse(send, OUR_FAULT, INTERNAL_ERROR)
        else:
            await _send(send, 200, {"predictions": rows})

    @contextmanager
    def _visit(self) -> Iterator[Asker]:
        """A request, with which all goes that was done for it."""
        asker = Asker(may_be_refused=True)
        self._bodies[asker] = Descriptor(os.memfd_create("vjepa-mlflow"))
        try:
            with self._room.place_for(asker), self._payloads.serving(asker), self._engine.serving(asker):
                yield asker
        finally:
            self._bodies.pop(asker, None)

    def _refuse(self, asker: Asker) -> None:
        asker.refused = True
        if asker in self._bodies:  # its client may send no more, and wait
            os.ftruncate(self._bodies[asker].number, 0)
        self._payloads.refuse(asker)
        self._engine.refuse(asker)

    async def _predictions(self, headers: Mapping[str, str], receive: Receive, asker: Asker) -> list[dict[str, Any]]:
        """Reads a request and does what it asks for, while its client is there."""
        body = await self._read(receive, asker)
        if "content-type" not in headers:
            raise PredictionError("Expected a header Content-Type, such as application/json.")
        work = asyncio.ensure_future(self._predict(body, headers, asker))
        del body  # which need not be kept until there are answers
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise _GoneError
            return work.result()
        finally:
            work.cancel()
            gone.cancel()

    async def _read(self, receive: Receive, asker: Asker) -> Content:
        """Reads a request's body into a file in memory.

        What is refused is taken to its end all the same, since few clients listen earlier.

        Raises:
            PredictionError: it is too large.
            BusyError: there is no room for it.
            _GoneError: the client is gone.
        """
        memory = self._bodies[asker]
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            chunk = message.get("body", b"")
            size += len(chunk)
            self._room.take(asker, size)
            if size <= self._largest and not asker.refused:
                write(memory.number, [chunk])
            else:
                os.ftruncate(memory.number, 0)
                self._room.take(asker, 0)
            more = message.get("more_body", False)
        if size > self._largest:
            raise PredictionError(
                f"The request is too large: expected at most {self._largest} bytes (max_request_bytes)."
            )
        if asker.refused:
            raise BusyError
        return Content(memory, 0, size)

    async def _predict(self, body: Content, headers: Mapping[str, str], asker: Asker) -> list[dict[str, Any]]:
        reading = asyncio.wrap_future(self._payloads.submit(body, headers, asker))
        del body, self._bodies[asker]
        payload = await reading
        self._room.take(asker, sum(video.size for video in payload.videos if isinstance(video, Content)))
        params = payload.params
        total, rows = len(payload.videos), []
        waiting: deque[asyncio.Future[Classification]] = deque()
        try:
            for number in range(1, total + 1):
                while payload.videos and len(waiting) < self._engine.ahead:
                    classification = self._engine.classify(payload.videos.popleft(), params.num_clips, asker)
                    waiting.append(asyncio.wrap_future(classification))
                rows.append(self._classifier.checked_row(await waiting.popleft(), number, total, params))
        finally:
            for one in waiting:
                one.cancel()
        return rows


class _GoneError(Exception):
    """Nobody waits for the answer any more."""


class _Room:
    """What all requests together hold of bodies and contents. Where there is too much, who holds most is refused."""

    def __init__(self, size: int, refuse: Callable[[Asker], None]):
        self._size, self._refuse = size, refuse
        self._taken: dict[Asker, int] = {}

    @contextmanager
    def place_for(self, asker: Asker) -> Iterator[None]:
        self._taken[asker] = 0
        try:
            yield
        finally:
            del self._taken[asker]

    def take(self, asker: Asker, size: int) -> None:
        """Says how many bytes an asker holds now."""
        self._taken[asker] = 0 if asker.refused else size
        while len(self._taken) > 1 and sum(self._taken.values()) > self._size:
            most = max(self._taken, key=self._taken.__getitem__)
            self._taken[most] = 0
            self._refuse(most)


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name, the first of each."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(list(headers))}


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, sentence: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
    status = MlflowException(sentence, error_code=error_code).get_http_status_code()
    again = [(b"retry-after", str(RETRY_SECONDS).encode())] if error_code == TEMPORARILY_UNAVAILABLE else []
    await _send(send, status, {"error_code": ErrorCode.Name(error_code), "message": sentence}, again)


async def _send(send: Send, status: int, content: Any, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    body = json.dumps(content).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})
