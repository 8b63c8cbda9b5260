"""Event files, as TensorBoard reads them."""

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from torch.utils.tensorboard import summary

from vjepa_mlflow.tracking.events import Events


def test_events_are_those_of_pytorchs_writer(tmp_path: Path) -> None:
    events = Events()
    events.add_scalar("loss", 0.1, 3)
    events.add_text("params", "| a | b |")
    (tmp_path / events.name).write_bytes(events.content())
    loaded = list(RawEventFileLoader(str(tmp_path / events.name)).Load())
    events_read = [Event.FromString(record) for record in loaded]
    assert [event.summary for event in events_read[1:]] == [
        summary.scalar("loss", 0.1),
        summary.text("params", "| a | b |"),
    ]
    assert [event.step for event in events_read] == [0, 3, 0]
