"""An outbox on its own, and a run that was interrupted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from outboxes import RecordingServer

from vjepa_mlflow.tracking import Job, outbox, run_log
from vjepa_mlflow.tracking.outbox import Outbox

JOB = Job.of("train", {"epochs": 5}, {"epochs": 5})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> RecordingServer:
    monkeypatch.setattr(outbox, "RETRY_INTERVAL", 0.01)
    return RecordingServer()


@pytest.fixture
def box(tracking: str, server: RecordingServer, tmp_path: Path) -> Iterator[Outbox]:
    (tmp_path / "box").mkdir()
    with Outbox(tmp_path / "box", "0123", server) as box:
        yield box


@pytest.fixture
def run_id(tracking: str) -> str:
    return str(MlflowClient().create_run("0").info.run_id)


@pytest.fixture
def killed(tracking: str) -> str:
    with pytest.raises(KeyboardInterrupt), run_log(JOB) as log:
        raise KeyboardInterrupt
    return log.run_id
