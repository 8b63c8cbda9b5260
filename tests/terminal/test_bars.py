import io
import os
import sys
import threading

import pytest

from vjepa_mlflow.terminal.bars import SIZE, Bar


def put_terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """In place of stderr, one that does not say how large it is."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_a_bar_fits_a_terminal_without_a_size_and_starts_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = put_terminal(monkeypatch)
    threads = threading.active_count()
    with Bar.shown(range(3), total=3, desc="Reading") as bar:
        assert list(bar) == [0, 1, 2]
        assert threading.active_count() == threads
    lines = terminal.getvalue().split("\r")
    assert any("Reading: 100%" in line for line in lines)
    assert max(len(line.rstrip("\n")) for line in lines) <= SIZE["ncols"]


def test_nothing_is_shown_where_there_is_nothing_to_do_or_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = put_terminal(monkeypatch)
    list(Bar.shown([], total=0))
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    list(Bar.shown(range(3), total=3))
    assert terminal.getvalue() == ""


def test_a_fork_shows_a_bar_while_another_thread_of_its_parent_holds_the_lock() -> None:
    with Bar.get_lock():
        thread = threading.Thread(target=_fork, args=(statuses := [],))
        thread.start()
        thread.join(10)
    assert statuses == [0]


def _fork(statuses: list[int]) -> None:
    child = os.fork()
    if not child:
        acquired = Bar.get_lock().acquire(timeout=5)
        os._exit(0 if acquired else 1)
    statuses.append(os.waitpid(child, 0)[1])
