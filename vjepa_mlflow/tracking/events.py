"""What TensorBoard shows of a run, kept in memory: its own writer needs a disk all the time, and dies with it.

The events are those of `torch.utils.tensorboard`, which would import far more than the messages that they are made of.
"""

import io
import os
import socket
import struct
import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from vjepa_mlflow.tracking.records import record

_TEXT = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))

_SIZE_OF_PNG = slice(16, 24)
"""Where a PNG file has its width and its height."""


class Events:
    """An event file that grows.

    Attributes:
        name: of the file, as TensorBoard expects one.
    """

    def __init__(self) -> None:
        self.name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.0"
        self._content = io.BytesIO()
        self._add(Event(file_version="brain.Event:2"))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._add_value(Summary.Value(tag=name, simple_value=value), step)

    def add_png(self, name: str, png: bytes, step: int) -> None:
        """Adds a PNG file's content as it is."""
        width, height = struct.unpack(">II", png[_SIZE_OF_PNG])
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        self._add_value(Summary.Value(tag=name, image=image), step)

    def add_text(self, name: str, markdown: str) -> None:
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype="DT_STRING", string_val=[markdown.encode()], tensor_shape=shape)
        self._add_value(Summary.Value(tag=f"{name}/text_summary", metadata=_TEXT, tensor=tensor))

    def content(self) -> bytes:
        """The file so far."""
        return self._content.getvalue()

    def _add_value(self, value: Summary.Value, step: int = 0) -> None:
        self._add(Event(summary=Summary(value=[value]), step=step))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._content.write(record(event.SerializeToString()))
