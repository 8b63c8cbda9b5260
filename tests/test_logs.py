import logging

import pytest

from vjepa_mlflow.logs import PACKAGE, get_logger


def test_a_record_is_one_line_that_steers_no_terminal_and_tells_no_password(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_logger(f"{PACKAGE}.somewhere")
    logging.getLogger(PACKAGE).addHandler(caplog.handler)
    try:
        logger.warning("a\nb\x1b[2J of http://anna:secret@host/100%")
    finally:
        logging.getLogger(PACKAGE).removeHandler(caplog.handler)
    (message,) = {record.getMessage() for record in caplog.records}
    assert message.startswith(r"a\nb\x1b[2J of http://")
    assert "secret" not in message
    assert {record.name for record in caplog.records} == {f"{PACKAGE}.somewhere"}
