"""The bodies of requests, read in processes of their own."""

import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

from mlflow.models import ModelSignature

from vjepa_mlflow.files.paths import shortened
from vjepa_mlflow.flavor import payload_process
from vjepa_mlflow.flavor.faults import PredictionError
from vjepa_mlflow.flavor.params import Params
from vjepa_mlflow.flavor.payload_process import Answer, Request
from vjepa_mlflow.runtime.asking import Asker, Job
from vjepa_mlflow.runtime.crew import Crew
from vjepa_mlflow.runtime.processes import ForkServer
from vjepa_mlflow.video import Content, Descriptor, VideoError

PLACES, HEAVY = 3, 0.5
"""Processes, all but one of which are paused, and each of which may take much memory; and seconds: see `Crew`."""

SECONDS = 20.0
"""That reading a body may take."""


class Payload(NamedTuple):
    """What a request holds.

    Attributes:
        videos: their contents, or why there is none.
        params: of the prediction.
    """

    videos: deque[Content | VideoError]
    params: Params


class Payloads:
    """Reads bodies of requests, for any number of askers in fair turns, in processes that may be killed for it.

    Args:
        signature: of the model.
        max_videos: of one request.
        max_bytes: of its videos.
    """

    def __init__(self, signature: ModelSignature, *, max_videos: int, max_bytes: int):
        # Address space is limited, and these would take much of it for later.
        apart = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
        work = partial(payload_process.work, signature.to_dict(), max_videos, max_bytes)
        # One at a time reads some hundred usual bodies a second.
        self._crew = Crew(ForkServer(payload_process.__name__, **apart), work, count=1, places=PLACES, heavy=HEAVY)
        self.serving, self.refuse, self.close = self._crew.serving, self._crew.refuse, self._crew.close

    def submit(self, body: Content, headers: Mapping[str, str], asker: Asker) -> "Future[Payload]":
        """Has a body read when it is the asker's turn.

        Args:
            body: of a request.
            headers: by their names in small letters; there is a `content-type`.
            asker: for whom.

        Returns:
            A future of what is in it, or of a PredictionError.
        """
        return self._crew.submit(_Body(body, headers, asker))


class _Body(Job[Payload]):
    """A body to be read."""

    def __init__(self, body: Content, headers: Mapping[str, str], asker: Asker):
        super().__init__(asker, limit=SECONDS)
        self._body: Content | None = body
        kind, coded = (shortened(headers.get(f"content-{name}", "")) for name in ("type", "encoding"))
        self._request = Request(kind, coded, body.size)
        self._contents: Descriptor | None = None

    def begin(self) -> tuple[bytes, Sequence[int]]:
        self._contents = Descriptor(os.memfd_create("vjepa-mlflow"))
        assert self._body is not None
        return json.dumps(asdict(self._request)).encode(), (self._body.memory.number, self._contents.number)

    def finish(self, answer: bytes) -> Payload:
        parsed = Answer(**json.loads(answer))
        if parsed.error:
            raise PredictionError(parsed.error)
        assert self._contents is not None
        offset, size = parsed.table
        table = json.loads(os.pread(self._contents.number, size, offset))
        videos = (VideoError(one) if isinstance(one, str) else Content(self._contents, *one) for one in table)
        return Payload(deque(videos), Params(*parsed.params))

    def broken(self, *, late: bool) -> PredictionError:
        amount = "too long" if late else "too much"
        return PredictionError(f"The request takes {amount} to read: expected one that holds little but videos.")

    def end(self) -> None:
        self._body = self._contents = None
