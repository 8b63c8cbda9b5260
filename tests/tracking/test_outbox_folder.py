"""The folder of an outbox: whose it is, and what lies in it."""

from pathlib import Path

from outboxes import leave_folder

from vjepa_mlflow.tracking.outbox_folder import Address, read_address


def test_the_folder_says_whose_it_is_where_its_note_does_not(tmp_path: Path) -> None:
    left = leave_folder(tmp_path / "outbox" / "0123", "a", "1")
    (left / "outbox.json").write_text("{")
    assert read_address(left) == Address("0123", "")
