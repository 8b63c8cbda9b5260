"""Artifacts of a run, read back."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking.artifacts import download, list_files, read_beginning


@pytest.fixture
def run_id(tracking: str) -> str:
    run_id = str(MlflowClient().create_run("0").info.run_id)
    for name in ("labels.json", "checkpoint/state-1"):
        MlflowClient().log_text(run_id, f"of {name}", name)
    return run_id


def test_files_are_listed_by_name_and_folders_are_not(run_id: str) -> None:
    assert list_files(run_id, "") == ["labels.json"]
    assert list_files(run_id, "checkpoint") == ["state-1"]
    assert list_files(run_id, "nowhere") == []


def test_a_file_is_fetched_and_one_that_is_gone_is_named(run_id: str, tmp_path: Path) -> None:
    assert download(run_id, "checkpoint/state-1", tmp_path).read_text() == "of checkpoint/state-1"
    with pytest.raises(UserError, match=f"^run {run_id}: head cannot be fetched .*: expected it as an artifact"):
        download(run_id, "head", tmp_path)


def test_a_run_that_was_stopped_before_its_data_was_logged_has_no_beginning(run_id: str) -> None:
    assert read_beginning(run_id) is None
    MlflowClient().log_text(run_id, "name", "split.csv")
    assert read_beginning(run_id) is None  # without its checkpoint


def test_a_run_that_is_not_there_is_named(tracking: str) -> None:
    for read in (read_beginning, lambda run_id: list_files(run_id, "")):
        with pytest.raises(UserError, match=f"^run {'0' * 32}: .*cannot be (read|listed)"):
            read("0" * 32)
