"""What tests of outboxes need: a server that fails on command, entries, and folders that others left."""

import json
import time
from pathlib import Path

import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from vjepa_mlflow.tracking.delivery import BATCH
from vjepa_mlflow.tracking.entries import read_entry
from vjepa_mlflow.tracking.outbox import Outbox

ABSENCES = [
    MlflowException("the database is away", TEMPORARILY_UNAVAILABLE),
    requests.ConnectionError("refused"),
    requests.Timeout("too late"),
]


class RecordingServer:
    """Takes entries, notes their texts, and fails as it is told to.

    Attributes:
        delivered: the texts of the entries that it has got.
        asked: how often it was.
        fault: what it raises; None takes entries.
        refuses: the text of an entry that it raises this for, whatever else.
    """

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.asked = 0
        self.fault: Exception | None = None
        self.refuses: dict[str, Exception] = {}

    def __call__(self, entry: Path) -> None:
        self.asked += 1
        _, values = read_entry(entry)
        for fault in (self.fault, self.refuses.get(values["text"])):
            if fault is not None:
                raise fault
        self.delivered.append(values["text"])


def put(box: Outbox, *texts: str, kind: str = BATCH) -> None:
    for text in texts:
        box.put(kind, {"text": text})


def leave_folder(root: Path, name: str, *texts: str) -> Path:
    """As a killed process of an older version left it, which counted entries from 1."""
    for number, text in enumerate(texts, start=1):
        entry = root / name / f"{number:08}-{BATCH}"
        entry.mkdir(parents=True)
        (entry / "entry.json").write_text(json.dumps({"text": text}))
        time.sleep(0.01)
    (root / name / "outbox.json").write_text('{"run_id": "0123", "tracking_uri": "http://ann:hunter2@server"}')
    return root / name
