"""The kinds of entries of an outbox, and how each gets to the tracking server: as often as need be."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS

from vjepa_mlflow.tracking.answers import permitted, understand
from vjepa_mlflow.tracking.entries import content_path, read_entry

BATCH, INPUT, FILES, TABLE = "batch", "input", "files", "table"
"""Parameters, metrics and tags; a dataset input; artifacts; a table that MLflow's interface shows and compares."""

CHECKPOINT = "checkpoint"
"""An artifact that takes the place of all others in its folder."""

DELETION = "deletion"
"""Of a folder of artifacts."""


def deliver(run_id: str, entry: Path) -> None:
    """Delivers an entry to its run on the tracking server.

    Raises:
        DamageError: it is not as it was left.
        Exception: whatever MLflow, or the store of its artifacts, raises.
    """
    kind, values = read_entry(entry)
    _WAYS[kind](MlflowClient(), run_id, entry, **values)


def _log_batch(
    client: MlflowClient,
    run_id: str,
    _: Path,
    *,
    metrics: Sequence[Mapping[str, Any]] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """With timestamps of their own, metrics that are there already are the same rows to MLflow."""

    def log(params: Mapping[str, str]) -> None:
        client.log_batch(
            run_id,
            metrics=[Metric(**metric, run_id=run_id) for metric in metrics],
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    try:
        log(params or {})
    except MlflowException as error:
        if not params or understand(error).blocks:
            raise
        present = client.get_run(run_id).data.params  # `mlflow run` and users log some, in their own words
        log({name: value for name, value in params.items() if name not in present})


def _log_input(client: MlflowClient, run_id: str, _: Path, *, dataset: Mapping[str, Any], context: str) -> None:
    """MLflow looks whether it has the data set and then adds it.

    Of two runs that do so at once one fails, and finds it there the second time.
    """
    used = DatasetInput(Dataset(**dataset), [InputTag(MLFLOW_DATASET_CONTEXT, context)])
    try:
        client.log_inputs(run_id, [used])
    except MlflowException:
        client.log_inputs(run_id, [used])


def _log_files(client: MlflowClient, run_id: str, entry: Path, *, name: str, replace: bool = False) -> None:
    """As the only one in its folder where it is to replace what is there."""
    if replace:
        _delete_folder(client, run_id, entry, name=name.partition("/")[0])
    _log_as(client, run_id, entry, name)


def _log_table(client: MlflowClient, run_id: str, entry: Path, *, name: str) -> None:
    """As `log_table` does, which would append to what is there."""
    _log_as(client, run_id, entry, name)
    mark_as_table(client, run_id, name)


def mark_as_table(client: MlflowClient, run_id: str, name: str) -> None:
    """Has MLflow's interface show an artifact as a table."""
    tables = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    if (table := {"path": name, "type": "table"}) not in tables:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*tables, table]))


def _log_checkpoint(client: MlflowClient, run_id: str, entry: Path, *, name: str) -> None:
    folder = name.rpartition("/")[0]
    older = [path for path in _list(run_id, folder) if path != name]
    _log_as(client, run_id, entry, name)
    for path in older:  # afterwards: an upload may break off
        _delete(run_id, path)


def _delete_folder(_: MlflowClient, run_id: str, __: Path, *, name: str) -> None:
    if name in _list(run_id, name.rpartition("/")[0]):
        _delete(run_id, name)


def _log_as(client: MlflowClient, run_id: str, entry: Path, name: str) -> None:
    content = content_path(entry, name)
    if content.is_dir():
        client.log_artifacts(run_id, str(content), name)
    else:
        client.log_artifact(run_id, str(content), name.rpartition("/")[0] or None)


def _list(run_id: str, folder: str) -> list[str]:
    """What is in a folder of artifacts, in one request, of which MLflow's client makes four."""
    return [artifact.path for artifact in _artifacts(mlflow.get_tracking_uri(), run_id).list_artifacts(folder or None)]


def _delete(run_id: str, name: str) -> None:
    # Some stores never delete.
    with suppress(NotImplementedError), permitted(f"run {run_id} keeps artifacts that it needs no more"):
        _artifacts(mlflow.get_tracking_uri(), run_id).delete_artifacts(name)


@lru_cache(maxsize=16)
def _artifacts(tracking_uri: str, run_id: str) -> ArtifactRepository:
    """Where a run's artifacts are: for ever the same place, which MLflow sends with all else that it has of the run."""
    return get_artifact_repository(MlflowClient(tracking_uri).get_run(run_id).info.artifact_uri)


_WAYS: dict[str, Callable[..., None]] = {
    BATCH: _log_batch,
    INPUT: _log_input,
    FILES: _log_files,
    TABLE: _log_table,
    CHECKPOINT: _log_checkpoint,
    DELETION: _delete_folder,
}
