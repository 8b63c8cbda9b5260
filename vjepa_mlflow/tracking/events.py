"""What TensorBoard shows of a run, kept in memory: its own writer needs a disk all the time, and dies with it."""

import io
import os
import socket
import time

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import scalar, text


class Events:
    """An event file that grows.

    Attributes:
        name: of the file, as TensorBoard expects one.
    """

    def __init__(self) -> None:
        self.name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.0"
        self._content = io.BytesIO()
        self._writer = RecordWriter(self._content)
        self._add(Event(file_version="brain.Event:2"))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._add(Event(summary=scalar(name, value), step=step))

    def add_png(self, name: str, png: bytes, step: int) -> None:
        """Adds a PNG file's content as it is."""
        width, height = Image.open(io.BytesIO(png)).size
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        self._add(Event(summary=Summary(value=[Summary.Value(tag=name, image=image)]), step=step))

    def add_text(self, name: str, markdown: str) -> None:
        self._add(Event(summary=text(name, markdown)))

    def content(self) -> bytes:
        """The file so far."""
        return self._content.getvalue()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
