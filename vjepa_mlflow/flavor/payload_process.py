"""What a process does that reads the bodies of requests, with MLflow's own code, where that can hold up nobody.

It takes one request after the other from a Unix socket, and ends with it: JSON with the fields of `Request`, and two
descriptors, of a file with the body and of one for the contents of the videos in it. It answers with the fields of
`Answer`, of which the table is in that file, too.
"""

import base64
import binascii
import json
import os
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from io import BytesIO, StringIO
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature

from vjepa_mlflow.errors import one_line
from vjepa_mlflow.flavor.contents import COLUMN, EXPECTED, check_frame, read_contents
from vjepa_mlflow.flavor.faults import PredictionError, sentence_of
from vjepa_mlflow.flavor.params import Params
from vjepa_mlflow.internals import mlflow_private_server as mlflow_server
from vjepa_mlflow.runtime.channel import Channel, write
from vjepa_mlflow.runtime.crew_member import STATM, more_memory, serve_jobs
from vjepa_mlflow.video import VideoError

LARGEST_MESSAGE = 1 << 16

LEAST_BYTES, TIMES_BODY = 1 << 30, 6
"""Of memory, for reading a body: as much for any, and so much more for each of its bytes."""


@dataclass(frozen=True)
class Request:
    """A body of so many bytes, and what its headers say of it."""

    content_type: str
    content_encoding: str
    size: int


@dataclass(frozen=True)
class Answer:
    """What a body holds, or what is wrong with it.

    Attributes:
        error: a sentence for the client; empty where there is none.
        params: of the prediction.
        table: where in the file it says in JSON, for each video, where in the file that is (offset, size), or why it is
            not there.
    """

    error: str = ""
    params: Params = field(default_factory=Params.defaults)
    table: tuple[int, int] = (0, 0)


def work(signature: dict[str, Any], max_videos: int, max_bytes: int, channel: Channel) -> None:
    """Reads bodies for a crew, until nobody asks for it any more.

    Args:
        signature: of the model, as MLflow writes it.
        max_videos: of one request.
        max_bytes: of its videos.
        channel: by which the crew is reached.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    read = _Reader(ModelSignature.from_dict(signature), max_videos, max_bytes)
    with serve_jobs(channel) as requests, suppress(ConnectionError):  # of a parent that is gone
        while (received := socket.recv_fds(requests, LARGEST_MESSAGE, 2))[0]:
            message, descriptors, *_ = received
            answer = read(Request(**json.loads(message)), *descriptors)
            requests.send(json.dumps(asdict(answer)).encode())


class _Reader:
    def __init__(self, signature: ModelSignature, max_videos: int, max_bytes: int):
        self._signature, self._max_videos, self._max_bytes = signature, max_videos, max_bytes
        self._statm = os.open(STATM, os.O_RDONLY)

    def __call__(self, request: Request, body: int, contents: int) -> Answer:
        try:
            with more_memory(LEAST_BYTES + TIMES_BODY * request.size, self._statm):
                frame, params = _parse(body, request)
                videos, params = self._check(frame, params)
                return Answer(params=Params.read(params), table=self._write(videos, contents))
        except MlflowException as error:
            return Answer(sentence_of(error))
        except MemoryError:
            return Answer("The request takes too much memory to read: expected one that holds little but videos.")
        except Exception:  # of whatever parses
            return Answer("The request cannot be parsed: expected a form that MLflow's scoring server takes.")
        finally:
            os.close(body)
            os.close(contents)

    def _check(self, frame: Any, params: Any) -> tuple[list[bytes | VideoError], dict[str, Any] | None]:
        """The videos, and the params as the signature has them, if the model takes both."""
        unreadable: dict[int, VideoError] = {}
        if isinstance(frame, pd.DataFrame):
            check_frame(frame, at_most=self._max_videos)
            unreadable = {row: value for row, value in enumerate(frame[COLUMN]) if isinstance(value, VideoError)}
        if unreadable:
            frame[COLUMN] = [b"" if row in unreadable else value for row, value in enumerate(frame[COLUMN])]
        frame, params = mlflow_server.check_input(frame, params, self._signature)
        videos = read_contents(frame, at_most=self._max_videos)
        return [unreadable.get(row, video) for row, video in enumerate(videos)], params

    def _write(self, videos: list[bytes | VideoError], contents: int) -> tuple[int, int]:
        """Writes the videos' contents to a file, and where they are behind them; returns where that is."""
        size = sum(len(video) for video in videos if isinstance(video, bytes))
        if size > self._max_bytes:  # in Parquet many may be one
            expected = f"expected at most {self._max_bytes} (max_request_bytes)"
            raise PredictionError(f"The request's videos have {size} bytes: {expected}.")
        table: list[tuple[int, int] | str] = []
        end = 0
        for video in videos:
            if isinstance(video, VideoError):
                table.append(str(video))
                continue
            write(contents, [video])
            table.append((end, len(video)))
            end += len(video)
        encoded = json.dumps(table).encode()
        write(contents, [encoded])
        return end, len(encoded)


def _parse(body: int, request: Request) -> tuple[Any, Any]:
    """Data, mostly a data frame, and params, as MLflow's scoring server reads them.

    Raises:
        MlflowException: it does not, or the body is not of the type that it is said to be.
    """
    kind, *parameters = (part.strip() for part in request.content_type.lower().replace('"', "").split(";"))
    unknown = [one for one in parameters if one != "charset=utf-8"]
    if unknown or kind not in mlflow_server.CONTENT_TYPES:
        expected = ", ".join(mlflow_server.CONTENT_TYPES)
        raise PredictionError(f"Content-Type: {request.content_type}: expected one of {expected}, in UTF-8.")
    content = os.pread(body, request.size, 0)
    if kind == mlflow_server.PARQUET:
        return _read_table("Parquet", pd.read_parquet, BytesIO(content)), None
    text = _decode(content, request, is_json=kind == mlflow_server.JSON)
    del content  # it may be large
    if kind == mlflow_server.CSV:
        return _read_table("CSV", partial(pd.read_csv, dtype=object), StringIO(text)), None
    return _parse_json(text)


def _read_table(kind: str, read: Callable[[Any], Any], content: BytesIO | StringIO) -> pd.DataFrame:
    try:
        return read(content)
    except MemoryError:
        raise
    except Exception as error:  # each format has errors of its own
        raise PredictionError(f"The request's body cannot be read as {kind}: {one_line(error).rstrip('.')}.") from None


def _decode(content: bytes, request: Request, *, is_json: bool) -> str:
    try:
        return content.decode(json.detect_encoding(content) if is_json else "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        coded = request.content_encoding
        about = f"Content-Encoding: {coded}" if coded else "The request's body is not text in UTF-8"
        raise PredictionError(f"{about}: expected JSON or CSV that is not compressed.") from None


def _parse_json(text: str) -> tuple[Any, Any]:
    try:
        payload = json.loads(text)
    except json.JSONDecodeError as error:
        raise PredictionError(f"The request's body is not JSON: {error}.") from None
    if not isinstance(payload, dict):
        raise PredictionError(f"{mlflow_server.EXPECTED_FORM}.")
    del text
    forms = mlflow_server.FORMS & payload.keys()
    if len(forms) != 1:
        raise PredictionError(f"{mlflow_server.EXPECTED_FORM}. It has {', '.join(sorted(forms)) or 'none'}.")
    (form,) = forms
    try:
        return _read_form(form, payload[form]), payload.get(mlflow_server.PARAMS)
    except ValueError as error:
        raise PredictionError(f"{form}: {one_line(error).rstrip('.')}.") from None


def _read_form(form: str, value: Any) -> Any:
    if form in mlflow_server.FRAMES:
        frame = mlflow_server.read_frame(value, orient=mlflow_server.FRAMES[form])
        if list(frame.columns).count(COLUMN) == 1:
            frame[COLUMN] = pd.Series(map(_from_base64, frame[COLUMN]), index=frame.index, dtype=object)
        return frame
    # MLflow would make arrays of these, whose texts all take as much memory as the longest.
    if isinstance(value, dict):
        return pd.DataFrame(value if any(isinstance(one, list) for one in value.values()) else [value])
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return pd.DataFrame(value)
    return pd.DataFrame({COLUMN: value if isinstance(value, list) else [value]})


def _from_base64(text: Any) -> bytes | VideoError:
    """As MLflow decodes it, which passes over what is not in base64's alphabet; but each row by itself."""
    if not isinstance(text, str):
        return VideoError(f"it is of type {type(text).__name__}: {EXPECTED} in base64")
    try:
        return base64.decodebytes(text.encode())
    except (binascii.Error, UnicodeEncodeError):
        return VideoError(f"it is text that is not base64: {EXPECTED} in base64")
