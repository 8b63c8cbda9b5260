"""The folder of an outbox: whose it is, and what lies in it."""

from pathlib import Path

import pytest
from outboxes import leave_folder

from vjepa_mlflow.tracking.entries import DamageError, write_about, write_sealed
from vjepa_mlflow.tracking.outbox_folder import (
    END,
    MODEL,
    MODEL_NOTE,
    UNNAMED_MODEL,
    Address,
    End,
    damage_beside,
    holds_any,
    is_finished,
    locked,
    read_address,
    read_end,
    read_publication,
    remove_outbox,
    root_of,
    written_here,
)


def test_the_folder_says_whose_it_is_where_its_note_does_not(tmp_path: Path) -> None:
    left = leave_folder(tmp_path / "outbox" / "0123", "a", "1")
    (left / "outbox.json").write_text("{")
    assert read_address(left) == Address("0123", "")


def test_a_folder_is_locked_by_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path) as first, locked(tmp_path) as second:
        assert (first, second) == (True, False)
    with locked(tmp_path) as again:
        assert again


def test_whoever_never_wrote_here_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    assert written_here("0123") is None
    folder = root_of("0123") / "a"
    folder.mkdir(parents=True)
    assert written_here("0123") is False
    with locked(folder):
        assert written_here("0123") is True


def test_what_nobody_left_there_is_damage_and_what_is_not_complete_is_not(tmp_path: Path) -> None:
    for name in ("1-batch", ".tmp-2-batch", "lock", "outbox.json", "notes.txt"):
        (tmp_path / name).touch()
    assert damage_beside(tmp_path) == [f"{tmp_path / 'notes.txt'}: is nothing that a run leaves"]


def test_an_outbox_with_its_address_alone_holds_nothing(tmp_path: Path) -> None:
    for name in ("lock", "outbox.json"):
        (tmp_path / name).touch()
    assert not holds_any(tmp_path)
    (tmp_path / "1-batch").mkdir()
    assert holds_any(tmp_path)


def test_a_model_gets_its_name_once_what_goes_with_it_is_there(tmp_path: Path) -> None:
    write_sealed(tmp_path / "outbox.json", {})  # as an outbox does first, which sweeps away what is not complete
    (tmp_path / UNNAMED_MODEL).mkdir()
    (tmp_path / UNNAMED_MODEL / "head").write_text("head")
    assert read_publication(tmp_path) is None
    write_about(tmp_path / MODEL_NOTE, {"step": 3}, tmp_path / UNNAMED_MODEL)
    assert read_publication(tmp_path) == {"step": 3}
    assert (tmp_path / MODEL / "head").exists()
    (tmp_path / MODEL_NOTE).unlink()
    with pytest.raises(DamageError, match="without which the model beside it is none"):
        read_publication(tmp_path)


@pytest.mark.parametrize(("status", "finished"), [("FINISHED", True), ("KILLED", False)])
def test_only_a_job_that_came_to_its_end_is_finished(tmp_path: Path, status: str, finished: bool) -> None:
    assert not is_finished(tmp_path)
    write_sealed(tmp_path / END, {"status": status, "end_time": 1})
    assert read_end(tmp_path) == End(status, 1)
    assert is_finished(tmp_path) is finished


def test_the_last_outbox_takes_the_folders_around_it_away(tmp_path: Path) -> None:
    root = tmp_path / "outbox" / "0123"
    for name in ("a", "b"):
        (root / name / "1-batch").mkdir(parents=True)
    remove_outbox(root / "a")
    assert [path.name for path in root.iterdir()] == ["b"]
    remove_outbox(root / "b")
    assert list(tmp_path.iterdir()) == []
