"""Runs that did not come to their end, found and checked."""

import pytest
from mlflow import MlflowClient

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking.unfinished import check_unfinished


def test_a_run_that_was_deleted_is_said_to_be_where_it_is_to_go_on(killed: str) -> None:
    MlflowClient().delete_run(killed)
    with pytest.raises(UserError, match=f"resume={killed}: run {killed} was deleted; mlflow runs restore"):
        check_unfinished(killed, {})
