"""What a job logs, and what becomes of it in its run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
from matplotlib.figure import Figure
from mlflow.entities import Run, RunData, RunInfo
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vjepa_mlflow.evaluation.figures import draw
from vjepa_mlflow.tracking import Job, RunLog, UndeliveredError, run_log
from vjepa_mlflow.tracking.delivery import BATCH, CHECKPOINT, DELETION, FILES

JOB = Job.of("train", {"epochs": 5}, {"epochs": 5})


def test_tensorboard_has_figures_and_parameters(tracking: str, tmp_path: Path) -> None:
    png = draw(Figure(figsize=(2, 1), dpi=50))
    with run_log(JOB) as log:
        log.params({"epochs": 5})
        log.png(png, "empty.png", step=3)
    folder = Path(mlflow.artifacts.download_artifacts(run_id=log.run_id, dst_path=str(tmp_path)))
    assert (folder / "empty.png").read_bytes() == png
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    (image,) = events.Images("empty")
    assert (image.step, image.width, image.height) == (3, 100, 50)
    (text,) = events.Tensors("params/text_summary")
    assert b"| epochs | 5 |" in text.tensor_proto.string_val[0]


class Puts:
    """In an outbox's place: notes what is put, and delivers nothing."""

    folder = Path("/a folder")

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], object]] = []

    def put(self, kind: str, values: Mapping[str, Any], content: object = None) -> None:
        self.calls.append((kind, dict(values), content))

    def discard(self, kind: str) -> None:
        self.calls.append(("discard", {"kind": kind}, None))

    def leave_end(self, status: str) -> None:
        self.calls.append(("end", {"status": status}, None))

    def flush(self) -> Exception | None:
        return OSError(28, "No space left on device")


def open_in(puts: Puts, **about: Any) -> RunLog:
    run = Run(RunInfo("0123", "0", "user", "RUNNING", 0, None, "active"), RunData())
    return RunLog(run, puts, about.pop("points", set()), **about)  # type: ignore[arg-type]


def test_points_that_the_run_has_are_left_alone() -> None:
    puts = Puts()
    log = open_in(puts, points={("loss", 1)})
    log.metrics({"loss": 1.0, "accuracy": 0.5}, step=1)
    log.metrics({"loss": 2.0}, step=2)
    log.metrics({"loss": 1.0}, step=1)
    sent = [[(metric["key"], metric["step"]) for metric in values["metrics"]] for _, values, _ in puts.calls]
    assert sent == [[("accuracy", 1)], [("loss", 2)]]


def test_nothing_is_put_where_there_is_nothing_to_log() -> None:
    puts = Puts()
    log = open_in(puts)
    log.params({})
    log.tags({})
    assert puts.calls == []


def test_a_checkpoint_is_logged_in_the_place_of_those_that_wait() -> None:
    puts = Puts()
    log = open_in(puts)
    log.checkpoint(Path("state"), "checkpoint/state-2")
    log.forget_checkpoints("checkpoint")
    assert [(kind, values) for kind, values, _ in puts.calls] == [
        ("discard", {"kind": CHECKPOINT}),
        (CHECKPOINT, {"name": "checkpoint/state-2"}),
        ("discard", {"kind": CHECKPOINT}),
        (DELETION, {"name": "checkpoint"}),
    ]


def test_a_table_is_csv_and_a_text_may_hold_what_a_file_system_does() -> None:
    puts = Puts()
    log = open_in(puts)
    log.table([{"name": "a,b", "number": 1}, {"name": "c", "number": 2}], "rows.csv")
    log.text("\udcff", "name.txt")
    assert [content for _, _, content in puts.calls] == [b'name,number\n"a,b",1\nc,2\n', b"\xff"]


def test_events_are_logged_again_only_where_there_are_new_ones() -> None:
    puts = Puts()
    log = open_in(puts)
    log.events()
    log.events()
    assert len(puts.calls) == 1
    log.metrics({"loss": 1.0}, step=1)
    log.events()
    assert [kind for kind, _, _ in puts.calls] == [FILES, BATCH, FILES]


@pytest.mark.parametrize("owned", [True, False])
def test_an_end_is_left_only_of_a_run_that_is_ours_to_end(owned: bool) -> None:
    puts = Puts()
    open_in(puts, owned=owned).leave_end()
    assert puts.calls == ([("end", {"status": "FINISHED"}, None)] if owned else [])


def test_what_was_not_delivered_is_said_with_the_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vjepa_mlflow.tracking.log.server", lambda: "tracking URI http://server")
    log = open_in(Puts())
    with pytest.raises(UndeliveredError, match=r"nothing is lost; once .*: vjepa-mlflow upload '/a folder'"):
        log.deliver()
    refused = log.undelivered(ValueError("no"))
    assert str(refused).startswith("tracking URI http://server: it has not taken all of the run (no): nothing is lost")
