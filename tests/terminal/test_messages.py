"""Records on the terminal: which stream has which, and that a program's own logging stays as it is."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from vjepa_mlflow.logs import PACKAGE, get_logger
from vjepa_mlflow.terminal.messages import messages_shown

logger = get_logger(f"{PACKAGE}.somewhere")


class Gone(io.StringIO):
    """An output that nobody takes any more."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def package() -> Iterator[logging.Logger]:
    """The package's logger, as it is before anybody has touched it; the tests' session shows messages itself."""
    logger = logging.getLogger(PACKAGE)
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers[:], logger.level, logger.propagate = [], logging.NOTSET, True
    logger.manager._clear_cache()
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before
    logger.manager._clear_cache()


def test_how_work_goes_is_on_stdout_and_what_goes_wrong_on_stderr(
    package: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    with messages_shown():
        logger.debug("a detail")
        logger.info("a line")
        logger.warning("a warning")
        logger.error("an error")
    assert capsys.readouterr() == ("a line\n", "a warning\nan error\n")


def test_nothing_is_shown_twice_where_blocks_are_nested_or_a_program_shows_all_records(
    package: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(sys.stderr)])
    with messages_shown(), messages_shown():
        logger.info("a line")
    assert capsys.readouterr() == ("a line\n", "")


def test_a_handler_of_a_programs_own_has_them_alone(
    package: logging.Logger, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    package.addHandler(caplog.handler)
    package.setLevel(logging.WARNING)
    with messages_shown():
        logger.info("a line")
        logger.warning("a warning")
        assert (package.handlers, package.level, package.propagate) == ([caplog.handler], logging.WARNING, True)
    assert capsys.readouterr() == ("", "")
    assert "a warning" in caplog.messages
    assert "a line" not in caplog.messages


@pytest.mark.parametrize(("level", "propagates"), [(logging.NOTSET, True), (logging.ERROR, False)])
def test_level_and_propagation_are_as_before_also_after_an_error(
    package: logging.Logger, capsys: pytest.CaptureFixture[str], level: int, propagates: bool
) -> None:
    package.setLevel(level)
    package.propagate = propagates
    with suppress(KeyError), messages_shown():
        logger.warning("a warning")
        raise KeyError
    assert (package.handlers, package.level, package.propagate) == ([], level, propagates)
    assert capsys.readouterr() == ("", "" if level == logging.ERROR else "a warning\n")


def test_an_output_that_is_gone_ends_no_work(package: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    with messages_shown():
        logger.info("a line")


def test_letters_that_a_terminal_has_not_are_escaped(package: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with messages_shown():
        logger.info("größer")
    assert written.getvalue() == b"gr\\xf6\\xdfer\n"


def test_a_program_without_a_terminal_goes_on(package: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with messages_shown():
        logger.info("a line")
