"""Clients of a server that time its answers."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

JSON = "application/json"
NOT_YET = "no answer yet"


class Answer(NamedTuple):
    """What a client got.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        sentence: what was said to be wrong, or why there was no answer.
        seconds: from the beginning of the connection on.
        content: the body.
    """

    status: int
    sentence: str
    seconds: float
    content: bytes = b""


Client = Callable[[int, float], list[Answer]]
"""Takes a server's port and the moment at which it gives up, and returns the answers that it got."""


def ask(port: int, body: bytes, *, until: float, content_type: str = JSON, **headers: str) -> Answer:
    """Sends a request by a connection of its own, and waits for the answer until a moment of `time.monotonic`."""
    begun = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=max(0.01, until - begun))
    try:
        send(connection, body, {"Content-Type": content_type, **headers})
        connection.sock.settimeout(max(0.01, until - time.monotonic()))
        return receive(connection, begun)
    except TimeoutError:
        return Answer(0, NOT_YET, time.monotonic() - begun)
    except (OSError, HTTPException) as error:
        return Answer(0, type(error).__name__, time.monotonic() - begun)
    finally:
        connection.close()


def send(connection: HTTPConnection, body: bytes, headers: dict[str, str]) -> None:
    """Sends a request, as far as the server takes it."""
    with suppress(BrokenPipeError, ConnectionResetError):  # of a server that answers before it has everything
        connection.request("POST", "/invocations", body, headers)


def receive(connection: HTTPConnection, begun: float) -> Answer:
    """Waits for the answer to what was sent."""
    response = connection.getresponse()
    content = response.read()
    seconds = time.monotonic() - begun
    try:
        sentence = "" if response.status == 200 else str(json.loads(content)["message"])
    except (ValueError, TypeError, KeyError):
        sentence = content.decode(errors="replace")
    return Answer(response.status, sentence, seconds, content)


def asking(body: bytes, content_type: str = JSON, **headers: str) -> Client:
    """A client that sends this once."""
    return lambda port, until: [ask(port, body, until=until, content_type=content_type, **headers)]


def describe(answer: Answer) -> str:
    """An answer in words."""
    return f"{answer.status or 'nothing'} {answer.sentence[:200]}".strip()


def told(answers: Sequence[Answer]) -> list[str]:
    """What attackers were answered, in lines: how often, what, and after how long."""
    times: dict[str, list[float]] = {}
    for answer in answers:
        times.setdefault(describe(answer), []).append(answer.seconds)
    return [f"{len(some)} x {what} after {min(some):.2f} to {max(some):.2f} s" for what, some in sorted(times.items())]
