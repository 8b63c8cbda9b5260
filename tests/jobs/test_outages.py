"""A tracking server that is away for a while or for good, and a registry that refuses."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from helpers import points
from mlflow import MlflowClient

from tools.outages import mlflow_server
from tools.proxy import Proxy
from vjepa_mlflow import Recipe, TrainingResult, UserError, train, upload
from vjepa_mlflow.cache import cache_folder
from vjepa_mlflow.cli import main
from vjepa_mlflow.tracking import FAILURE_TAG, UndeliveredError


@pytest.fixture(scope="module")
def proxy(module_tracking: Path) -> Iterator[Proxy]:
    with mlflow_server(module_tracking, "sqlite:///server.db") as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "10")  # soon one after the other
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        proxy = Proxy(address)
        mlflow.set_tracking_uri(proxy.address)
        yield proxy


@pytest.fixture(scope="module")
def recipe(small_data: Path) -> Recipe:
    return Recipe(data=str(small_data), model="tiny", epochs=3, learning_rate=1e-3)


@pytest.fixture(scope="module")
def undisturbed(proxy: Proxy, recipe: Recipe) -> TrainingResult:
    return train(recipe)


def check_same(run_id: str, undisturbed: TrainingResult) -> None:
    client = MlflowClient()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert FAILURE_TAG not in run.data.tags
    assert points(run_id) == points(undisturbed.run_id)
    names = [{artifact.path for artifact in client.list_artifacts(run)} for run in (run_id, undisturbed.run_id)]
    assert names[0] == names[1]
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    assert model.status == "READY"
    attached = {metric.key: metric.value for metric in model.metrics if metric.key.startswith("test_")}
    assert attached == {name: run.data.metrics[name] for name in attached} != {}


@pytest.mark.parametrize("words", [b"val_accuracy", b"report.html", b"model.safetensors"])
def test_while_the_server_is_away_nothing_is_lost(
    proxy: Proxy, recipe: Recipe, undisturbed: TrainingResult, words: bytes
) -> None:
    proxy.cut_when_sent(words, 1.5)
    result = train(recipe)
    assert not proxy.is_armed
    check_same(result.run_id, undisturbed)
    assert not (cache_folder() / "outbox" / result.run_id).exists()


@pytest.mark.parametrize("words", [b"val_accuracy", b"model.safetensors"])
def test_what_a_server_that_stays_away_has_not_got_is_uploaded_later(
    proxy: Proxy,
    recipe: Recipe,
    undisturbed: TrainingResult,
    words: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy.cut_when_sent(words, 1e6)
    with pytest.raises(UndeliveredError) as missing:
        train(recipe)
    assert str(missing.value).startswith(f"tracking URI {proxy.address}: it has not taken all of the run (")
    assert "it has not taken all of the run" not in capsys.readouterr().err  # but for the error
    folder = Path(str(missing.value).partition("vjepa-mlflow upload ")[2])
    assert folder.is_dir()
    with pytest.raises(UserError, match=f"^tracking URI {proxy.address}: it does not answer"):
        upload(folder)
    proxy.join()
    capsys.readouterr()
    main(["upload", str(folder)])
    assert not folder.exists()
    told = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines() if line)
    check_same(told["Run"], undisturbed)
    assert mlflow.pyfunc.load_model(told["Model"])
    with pytest.raises(UserError, match=rf"^{folder}: expected a folder that a run named"):
        upload(folder)


def test_a_registry_that_refuses_costs_no_model(
    proxy: Proxy, recipe: Recipe, undisturbed: TrainingResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient()
    client.create_prompt("motions")  # the name is taken by something that is no model
    with pytest.raises(UndeliveredError, match="motions") as refused:
        train(replace(recipe, registered_model_name="motions"))
    run = mlflow.search_runs(output_format="list")[0]
    assert run.info.status == "FAILED"
    assert "motions" in run.data.tags[FAILURE_TAG]
    client.delete_prompt("motions")
    uploaded = upload(Path(str(refused.value).partition("vjepa-mlflow upload ")[2]))
    assert uploaded.model_uri == "models:/motions/1"
    check_same(run.info.run_id, undisturbed)
    assert client.get_model_version("motions", "1").tags["test_accuracy"] == str(run.data.metrics["test_accuracy"])
