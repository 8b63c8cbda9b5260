"""Versions of registered models, in an SQLite file, without a model in them."""

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from vjepa_mlflow.tracking.registry import (
    alias_holder,
    describe_version,
    evaluation_tags,
    find_logged_model,
    move_alias,
    register_model,
    registered_version,
    source_run,
    tag_version,
    version_tags,
)


def log_model(run_id: str, *, status: str = "READY", **tags: str) -> str:
    client = MlflowClient()
    model = client.create_logged_model("0", name="model", source_run_id=run_id, tags=tags)
    client.finalize_logged_model(model.model_id, status)
    return str(model.model_id)


@pytest.mark.parametrize("uri", ["runs:/0123/model", "models:/m-0123", "/a/folder"])
def test_what_names_no_registered_version_is_none(tracking: str, uri: str) -> None:
    assert registered_version(uri) is None


def test_a_version_is_found_by_number_and_by_alias_and_so_is_its_run(run_id: str) -> None:
    model_id = log_model(run_id)
    assert register_model("motions", model_id) == "1"
    assert alias_holder("motions", "champion") is None
    move_alias("motions", "champion", "1")
    assert alias_holder("motions", "champion") == "1"
    for uri in ("models:/motions/1", "models:/motions@champion"):
        assert (registered_version(uri), source_run(uri)) == (("motions", "1"), run_id)
    assert source_run(f"models:/{model_id}") == source_run(f"runs:/{run_id}/model") == run_id
    assert source_run("models:/motions/9") is None


def test_an_alias_is_one_versions_alone(run_id: str) -> None:
    versions = [register_model("motions", log_model(run_id)) for _ in range(2)]
    for version in versions:
        move_alias("motions", "champion", version)
    assert alias_holder("motions", "champion") == versions[-1]


def test_a_model_of_a_run_is_found_by_its_tag_and_what_broke_off_is_deleted(run_id: str) -> None:
    broken, other, model_id = (
        log_model(run_id, status="FAILED", head="a"),
        log_model(run_id, head="b"),
        log_model(run_id, head="a"),
    )
    assert find_logged_model(run_id, "head", "a") == model_id
    assert find_logged_model(run_id, "head", "c") is None
    models = mlflow.search_logged_models(output_format="list")
    assert {model.model_id for model in models} == {other, model_id} != {broken}


def test_a_version_has_a_description_and_the_tags_of_its_last_evaluation(run_id: str) -> None:
    version = register_model("motions", log_model(run_id))
    dataset = mlflow.data.from_numpy(np.zeros(3), name="walks")
    describe_version("motions", version, "of walks")
    for accuracy, num_clips in ((0.5, 1), (0.75, 3)):
        metrics = {"test_accuracy": accuracy}
        tags = evaluation_tags(metrics, split="test", num_clips=num_clips, dataset=dataset, seen="0", run_id=run_id)
        tag_version("motions", version, tags)
    assert MlflowClient().get_model_version("motions", version).description == "of walks"
    assert version_tags("motions", version) == {
        "test_accuracy": "0.75",
        "test_evaluated_on": f"walks ({dataset.digest}), 3 clips a video",
        "test_seen_in_training": "0",
        "test_evaluation_run": run_id,
    }
