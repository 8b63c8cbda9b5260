"""The outbox by itself, with a delivery that fails on command."""

import io
import signal
import sys
import threading
from pathlib import Path

import pytest
from helpers import wait_until
from mlflow.exceptions import MlflowException, RestException
from outboxes import ABSENCES, RecordingServer, put

from vjepa_mlflow.tracking import outbox
from vjepa_mlflow.tracking.delivery import CHECKPOINT
from vjepa_mlflow.tracking.outbox import Outbox

REFUSALS = [
    MlflowException("nothing that is known"),
    RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}),
    OSError("no space"),
    ValueError(),
]


def entries(box: Outbox) -> list[str]:
    return sorted(path.name for path in box.folder.iterdir() if path.is_dir())


def test_entries_are_delivered_in_order_and_go(box: Outbox, server: RecordingServer) -> None:
    put(box, *map(str, range(20)))
    assert box.flush() is None
    assert server.delivered == [str(number) for number in range(20)]
    assert entries(box) == []


@pytest.mark.parametrize("fault", ABSENCES, ids=lambda fault: type(fault).__name__)
def test_while_nobody_answers_the_first_entry_is_tried_again_and_nothing_overtakes_it(
    box: Outbox, server: RecordingServer, fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    put(box, "before")
    assert box.flush() is None
    server.fault = fault
    put(box, "first", "second")
    wait_until(lambda: server.asked > 5)
    assert box.flush() is fault
    assert len(entries(box)) == 2
    server.fault = None
    wait_until(lambda: server.delivered == ["before", "first", "second"])
    assert box.flush() is None
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 3, "\n".join(warnings)
    assert "it does not answer" in warnings[0]
    assert f"what it logs is kept in {box.folder}" in warnings[0]
    assert "it is asked once more" in warnings[1]
    assert warnings[2].endswith("it answers again")


def test_who_has_interrupted_the_wait_for_a_slow_server_is_soon_let_go(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(outbox, "SECONDS_TO_CLOSE", 0.1)
    monkeypatch.setattr(box, "_deliver", lambda _: answers.wait(60))
    (tmp_path / "outer").mkdir()
    with Outbox(tmp_path / "outer", "4567", lambda _: answers.wait(60)) as outer:
        put(box, "slow")
        put(outer, "slow")
        interrupt = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            box.flush()
        assert all(isinstance(one.flush(), InterruptedError) for one in (box, outer))
        answers.set()
        wait_until(lambda: all(one.flush() is None for one in (box, outer)))


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda fault: type(fault).__name__)
def test_what_is_refused_is_set_aside_for_the_others_and_tried_again_in_the_end(
    box: Outbox, server: RecordingServer, fault: Exception
) -> None:
    server.refuses["second"] = fault
    put(box, "first", "second", "third")
    wait_until(lambda: server.delivered == ["first", "third"])
    assert box.flush() is fault
    assert len(entries(box)) == 1
    server.refuses.clear()
    assert box.flush() is None
    assert server.delivered == ["first", "third", "second"]


def test_what_is_out_of_date_is_dropped(box: Outbox, server: RecordingServer) -> None:
    server.refuses["before"] = ABSENCES[0]  # so that no state is under way, which may still get there
    put(box, "before")
    put(box, "state 1", kind=CHECKPOINT)
    put(box, "metrics")
    put(box, "state 2", kind=CHECKPOINT)
    box.discard(CHECKPOINT)
    put(box, "state 3", kind=CHECKPOINT)
    server.refuses.clear()
    wait_until(lambda: server.delivered == ["before", "metrics", "state 3"])
    assert box.flush() is None


def test_nothing_that_is_put_waits_for_the_server(box: Outbox, server: RecordingServer) -> None:
    released = threading.Event()
    deliver_now, box._deliver = box._deliver, lambda entry: (released.wait(20), deliver_now(entry))[1]
    put(box, *map(str, range(10)))
    assert server.delivered == []
    released.set()
    assert box.flush() is None
    assert len(server.delivered) == 10


def test_what_is_discarded_while_it_is_delivered_is_not_told_of(
    box: Outbox, server: RecordingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    under_way, released = threading.Event(), threading.Event()

    def fail(_: Path) -> None:
        under_way.set()
        released.wait(20)
        raise FileNotFoundError("content/state")

    monkeypatch.setattr(box, "_deliver", fail)
    put(box, "state", kind=CHECKPOINT)
    assert under_way.wait(20)
    box.discard(CHECKPOINT)
    monkeypatch.setattr(box, "_deliver", server)
    released.set()
    put(box, "metrics")
    assert box.flush() is None
    assert capsys.readouterr().err == ""


def test_an_output_that_is_gone_stops_no_delivery(
    box: Outbox, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    server.refuses["first"] = ValueError()
    put(box, "first", "second")
    wait_until(lambda: server.delivered == ["second"])
    assert isinstance(box.flush(), ValueError)


def test_its_thread_ends_with_the_block_and_what_was_not_delivered_stays(
    tracking: str, server: RecordingServer, tmp_path: Path
) -> None:
    (tmp_path / "left").mkdir()
    server.fault = ABSENCES[0]
    with Outbox(tmp_path / "left", "4567", server) as box:
        put(box, "first")
        wait_until(lambda: server.asked > 0)
        assert box._thread.is_alive()
    assert not box._thread.is_alive()
    assert len(entries(box)) == 1


def test_what_fails_while_a_refusal_is_told_stops_no_delivery(
    box: Outbox, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MlflowException("the store that is asked for more does not answer")

    monkeypatch.setattr(box._availability, "note", fail)
    server.fault = ValueError()
    put(box, "refused")
    wait_until(lambda: box._refused)
    server.fault = None
    put(box, "next")
    wait_until(lambda: server.delivered == ["next"])
    assert box.flush() is None
    assert server.delivered == ["next", "refused"]
