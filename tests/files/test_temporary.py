import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.files.temporary import _OWN, lack_of_room, own_place, own_temporaries, temporary_folder

HOLD = """
import tempfile, time
from pathlib import Path
from vjepa_mlflow.files.temporary import lend_to_libraries, own_temporaries
lend_to_libraries()
with own_temporaries():
    (Path(tempfile.mkdtemp()) / "model").touch()
    print(tempfile.gettempdir(), flush=True)
    {then}
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary é"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def start(then: str) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLD.format(then=then)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_the_dead_left_goes_at_the_next_start_and_what_is_held_stays(temporary: Path) -> None:
    killed, left = start("time.sleep(60)")
    living, held = start("time.sleep(60)")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert list(left.glob("*/model"))
    ended, own = start("pass")
    assert ended.wait() == 0
    assert not own.exists()
    assert not left.exists()
    assert list(held.glob("*/model"))
    living.send_signal(signal.SIGKILL)
    living.wait()
    start("pass")[0].wait()
    assert list(temporary.iterdir()) == []


def test_in_a_process_of_ours_threads_share_one_folder_and_the_last_restores_what_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_OWN, "lends", True)
    before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with own_temporaries():
            entered.set()
            leave.wait()

    other = threading.Thread(target=work)
    with own_temporaries():
        other.start()
        entered.wait()
    inside = tempfile.gettempdir()
    leave.set()
    other.join()
    assert inside != before[0]
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before
    with own_temporaries():
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{tempfile.gettempdir()}/model")
    assert lack_of_room(RuntimeError("x")) == ""
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("a store says no") from full
    assert lack_of_room(caught.value).startswith(f"TMPDIR={before[0]}: no room")


def test_in_another_process_nothing_is_changed_but_that_there_is_a_folder(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_OWN, "lends", False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = tempfile.gettempdir(), dict(os.environ)
    with own_temporaries(), temporary_folder() as folder:
        place = own_place()
        assert place is not None
        assert Path(place).parent == folder.parent
        assert (tempfile.gettempdir(), dict(os.environ)) == before
        theirs = tempfile.mkdtemp()
    assert not Path(place).exists()
    assert Path(theirs).exists()
    assert own_place() is None
    Path(theirs).rmdir()


def test_a_folder_that_somebody_else_put_there_is_refused(temporary: Path, tmp_path: Path) -> None:
    (temporary / f"vjepa-mlflow-{os.geteuid()}").symlink_to(tmp_path)
    code = "from vjepa_mlflow.files.temporary import own_temporaries\nwith own_temporaries(): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"UserError: TMPDIR={temporary}: what is temporary cannot be kept there" in done.stderr
    assert UserError.__name__ in done.stderr
