"""A loaded model in programs as people write them."""

import base64
import copy
import gc
import json
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import fastapi
import mlflow
import mlflow.pyfunc.scoring_server
import pandas as pd
import psutil
import pytest
from helpers import wait_until
from mlflow.pyfunc import PyFuncModel
from starlette.testclient import TestClient

from vjepa_mlflow import flavor
from vjepa_mlflow.data import draw_clip
from vjepa_mlflow.flavor.config import ServingConfig
from vjepa_mlflow.flavor.hosts import SERVER_MODULE
from vjepa_mlflow.model import load_classifier, load_processor, locate

LABELS = ["ape", "bee", "cat", "dog"]
REPORT = {"bad_videos": "report"}
LARGE = 1 << 20


def save(folder: Path, *, seed: int, config: ServingConfig | None = None) -> str:
    checkpoint = locate("tiny")
    classifier = load_classifier(checkpoint, LABELS, seed=seed)
    flavor.save_model(classifier, load_processor(checkpoint), folder, stride=4, config=config)
    return str(folder)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("saved") / "model", seed=0)


@pytest.fixture(scope="module")
def model(path: str) -> PyFuncModel:
    return mlflow.pyfunc.load_model(path)


@pytest.fixture(scope="module")
def frame(model: PyFuncModel) -> pd.DataFrame:
    """Videos, and the score that each has alone."""
    videos = [draw_clip("left_clockwise", seed=seed) for seed in range(4)]
    alone = [model.predict(pd.DataFrame({"video": [video]}))["score"][0] for video in videos]
    assert len(set(alone)) == 4
    return pd.DataFrame({"video": videos, "alone": alone})


INDICES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "a subset in another order": lambda frame: frame.iloc[[3, 1]],
    "words": lambda frame: frame.set_axis(["d", "a", "c", "b"]),
    "dates": lambda frame: frame.set_axis(pd.date_range("2026-01-01", periods=4)[::-1]),
    "two levels": lambda frame: frame.set_axis(pd.MultiIndex.from_product([["x", "y"], [2, 1]])),
}


@pytest.mark.parametrize("name", INDICES)
def test_predictions_join_the_rows_that_they_are_of(model: PyFuncModel, frame: pd.DataFrame, name: str) -> None:
    rows = INDICES[name](frame)
    joined = rows.join(model.predict(rows[["video"]]))
    assert joined["score"].tolist() == rows["alone"].tolist()


def test_an_index_that_repeats_is_kept_and_a_bad_row_has_its_own(model: PyFuncModel, frame: pd.DataFrame) -> None:
    rows = pd.DataFrame({"video": [frame["video"][0], b"\0no video", frame["video"][1]]}, index=[7, 7, 2])
    found = model.predict(rows, params=REPORT)
    assert found.index.tolist() == [7, 7, 2]
    assert found["error"].astype(bool).tolist() == [False, True, False]
    assert found["score"].tolist()[::2] == frame["alone"].tolist()[:2]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(cloudpickle.dumps(model))])
def test_a_copy_predicts_the_same(
    model: PyFuncModel, frame: pd.DataFrame, again: Callable[[PyFuncModel], PyFuncModel]
) -> None:
    assert again(model).predict(frame[["video"]])["score"].tolist() == frame["alone"].tolist()


def test_many_threads_get_the_answers_of_one(model: PyFuncModel, frame: pd.DataFrame) -> None:
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda number: model.predict(frame[["video"]].iloc[[number % 4]]), range(32)))
    assert [one["score"].iloc[0] for one in found] == frame["alone"].tolist() * 8


def held() -> tuple[int, int, int]:
    """Processes, threads and descriptors of this process."""
    gc.collect()
    me = psutil.Process()
    return len(me.children(recursive=True)), threading.active_count(), me.num_fds()


def test_what_a_model_holds_goes_with_it(path: str, frame: pd.DataFrame) -> None:
    before = held()
    for _ in range(3):
        mlflow.pyfunc.load_model(path).predict(frame[["video"]].iloc[:1])
        wait_until(lambda: held() == before)  # the thread that answered may not have ended yet


def test_an_interrupt_ends_a_prediction_and_not_the_next_one(model: PyFuncModel, frame: pd.DataFrame) -> None:
    """As in a notebook."""
    many = pd.concat([frame[["video"]]] * 50)
    begun = time.monotonic()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        model.predict(many, params={"num_clips": 32})
    assert model.predict(frame[["video"]])["score"].tolist() == frame["alone"].tolist()
    assert time.monotonic() - begun < 3


def test_two_models_are_served_in_one_process_each_within_its_own_limits(
    path: str, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = save(tmp_path / "model", seed=1, config=ServingConfig(max_request_bytes=LARGE))
    # As in a server's process, whose `fastapi.FastAPI` may be another while the model is loaded.
    monkeypatch.setitem(sys.modules, SERVER_MODULE, types.ModuleType(SERVER_MODULE))
    plain = fastapi.FastAPI
    clients = [
        TestClient(mlflow.pyfunc.scoring_server.init(mlflow.pyfunc.load_model(one)), raise_server_exceptions=False)
        for one in (path, other)
    ]
    assert fastapi.FastAPI is plain
    text = base64.b64encode(frame["video"][0]).decode()

    def ask(client: TestClient, video: str) -> dict:
        body = json.dumps({"dataframe_records": [{"video": video}]})
        return client.post("/invocations", content=body, headers={"Content-Type": "application/json"}).json()

    scores = [ask(client, text)["predictions"][0]["score"] for client in clients]
    assert scores[0] == frame["alone"][0] != scores[1]
    refused = [ask(client, "*" * LARGE)["message"] for client in clients]
    assert ["max_request_bytes" in sentence for sentence in refused] == [False, True]


def test_a_fork_predicts_and_what_it_needs_ends_with_it(model: PyFuncModel, frame: pd.DataFrame) -> None:
    """As behind `gunicorn --preload`, whose workers may be killed."""

    def predict() -> list[float]:
        return model.predict(frame[["video"]])["score"].tolist()

    assert predict() == frame["alone"].tolist()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)
        said = predict(), [one.pid for one in psutil.Process().children(recursive=True)]
        os.write(write, json.dumps(said).encode())
        time.sleep(30)
        os._exit(0)
    os.close(write)
    try:
        scores, processes = json.loads(os.read(read, 9999))
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert scores == frame["alone"].tolist()
    assert len(processes) >= 2
    wait_until(lambda: not any(map(psutil.pid_exists, processes)))
    assert predict() == frame["alone"].tolist()
