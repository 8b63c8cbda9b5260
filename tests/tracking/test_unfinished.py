"""Runs that did not come to their end, found and checked."""

import json
from collections.abc import Callable, Mapping

import pytest
from mlflow import MlflowClient

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import Job, run_log, unfinished
from vjepa_mlflow.tracking.entries import write_sealed
from vjepa_mlflow.tracking.joining import STATUS_TAG
from vjepa_mlflow.tracking.outbox_folder import locked, root_of
from vjepa_mlflow.tracking.unfinished import DEFINITION_TAG, check_unfinished, find_unfinished, resumable


def test_a_run_that_was_deleted_is_said_to_be_where_it_is_to_go_on(killed: str) -> None:
    MlflowClient().delete_run(killed)
    with pytest.raises(UserError, match=f"resume={killed}: run {killed} was deleted; mlflow runs restore"):
        check_unfinished(killed, {})


DEFINITION = {"data": "demo", "epochs": "5"}


def begin(status: str = "KILLED", definition: Mapping[str, str] = DEFINITION, **tags: str) -> str:
    """A run with a definition that has ended so."""
    client = MlflowClient()
    run_id = client.create_run("0", tags={DEFINITION_TAG: json.dumps(dict(definition)), **tags}).info.run_id
    client.set_terminated(run_id, status)
    return str(run_id)


def test_the_last_run_of_a_definition_that_has_not_finished_goes_on(tracking: str) -> None:
    assert find_unfinished(DEFINITION) is None
    begin()
    last = begin("FAILED")
    begin("FINISHED")
    begin(definition={**DEFINITION, "epochs": "6"})
    begin(**{STATUS_TAG: "FINISHED"})  # in a run of somebody else's
    MlflowClient().create_run("0")
    assert find_unfinished(DEFINITION) == last


def test_a_run_that_somebody_works_at_does_not_go_on(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = begin()
    check_unfinished(run_id, DEFINITION)
    monkeypatch.setattr(unfinished, "is_worked_at", lambda run, _: run.info.run_id == run_id)
    assert find_unfinished(DEFINITION) is None
    folder = root_of(run_id) / "a"
    folder.mkdir(parents=True)
    with locked(folder), pytest.raises(UserError, match=f"^resume={run_id}: another process works at it"):
        check_unfinished(run_id, DEFINITION)


def test_a_run_says_what_it_is(tracking: str) -> None:
    with run_log(Job.of("train", {}, {})) as log, resumable(log, DEFINITION):
        log.deliver()
        assert json.loads(MlflowClient().get_run(log.run_id).data.tags[DEFINITION_TAG]) == DEFINITION


@pytest.mark.parametrize(
    ("begin_run", "message"),
    [
        (lambda: "0" * 32, "expected the id of a run, or auto"),
        (lambda: MlflowClient().create_run("0").info.run_id, "it is no training run of this project, or was stopped"),
        (lambda: begin(definition={**DEFINITION, "epochs": "6"}), "the run has epochs=6; here it is 5: expected the"),
        (lambda: begin("FINISHED"), "it has finished: expected a run that was stopped"),
    ],
    ids=["missing", "undefined", "different", "finished"],
)
def test_a_run_that_cannot_go_on_is_refused_with_the_reason(
    tracking: str, begin_run: Callable[[], str], message: str
) -> None:
    run_id = begin_run()
    with pytest.raises(UserError, match=f"^resume={run_id}: .*{message}"):
        check_unfinished(run_id, DEFINITION)


def test_a_run_that_only_waits_to_be_delivered_is_to_be_uploaded(tracking: str) -> None:
    run_id = begin()
    folder = root_of(run_id) / "a"
    write_sealed(folder / "end.json", {"status": "FINISHED", "end_time": 1})
    with pytest.raises(UserError, match=f"^resume={run_id}: .*vjepa-mlflow upload {folder}"):
        check_unfinished(run_id, DEFINITION)
