"""A real `mlflow models serve` process, asked over HTTP."""

import base64
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from helpers import free_port, server

from vjepa_mlflow import flavor
from vjepa_mlflow.model import load_classifier, load_processor, locate

JSON = "application/json"
PARQUET = "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("serving")
    checkpoint = locate("tiny")
    model = load_classifier(checkpoint, ["ape", "bee", "cat"], seed=0)
    flavor.save_model(model, load_processor(checkpoint), folder / "model", stride=4)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", str(folder / "model")]
    # Without PYTHONPATH the package comes from the model's own code folder, unless it is installed.
    with server(command, folder=folder, health="/ping", port=free_port(), PYTHONPATH="") as url:
        yield url


def post(address: str, body: Any, content_type: str = JSON) -> requests.Response:
    data = json.dumps(body) if content_type == JSON and not isinstance(body, bytes) else body
    return requests.post(f"{address}/invocations", data=data, headers={"Content-Type": content_type}, timeout=60)


def parquet(**columns: list) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


def test_every_form_of_payload_gives_the_same_answer(address: str, clip: bytes) -> None:
    text = base64.b64encode(clip).decode()
    payloads = {
        "dataframe_split": ({"dataframe_split": {"columns": ["video"], "data": [[text]]}}, JSON),
        "dataframe_records": ({"dataframe_records": [{"video": text}]}, JSON),
        "line-broken base64": ({"dataframe_records": [{"video": base64.encodebytes(clip).decode()}]}, JSON),
        "inputs, a column": ({"inputs": {"video": [text]}}, JSON),
        "inputs, records": ({"inputs": [{"video": text}]}, JSON),
        "inputs, one value": ({"inputs": {"video": text}}, JSON),
        "instances": ({"instances": [{"video": text}]}, JSON),
        "csv": (f"video\n{text}\n", "text/csv"),
        "parquet": (parquet(video=[clip]), PARQUET),
    }
    answers = {}
    for name, (body, content_type) in payloads.items():
        response = post(address, body, content_type)
        assert response.status_code == 200, (name, response.text)
        (answers[name],) = response.json()["predictions"]
    first = answers["dataframe_split"]
    assert first["label"] in ("ape", "bee", "cat")
    assert first["top_k"][0]["label"] == first["label"]
    for name, answer in answers.items():
        assert answer["label"] == first["label"], name
        assert answer["score"] == pytest.approx(first["score"], abs=1e-9), name


def test_params_reach_the_model(address: str, clip: bytes) -> None:
    body = {"inputs": {"video": [base64.b64encode(clip).decode()]}, "params": {"top_k": 2, "num_clips": 3}}
    (answer,) = post(address, body).json()["predictions"]
    assert len(answer["top_k"]) == 2


def bad_payloads(clip: bytes) -> dict[str, tuple[Any, str]]:
    text = base64.b64encode(clip).decode()

    def video(value: Any, **params: Any) -> tuple[Any, str]:
        return {"inputs": {"video": [value]}, **({"params": params} if params else {})}, JSON

    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    return {
        "no JSON": (b'{"inputs', JSON),
        "no body": (b"", JSON),
        "empty object": ({}, JSON),
        "a list": ([], JSON),
        "null": (None, JSON),
        "unknown field": ({"videos": [text]}, JSON),
        "two fields": ({"inputs": {"video": [text]}, "instances": []}, JSON),
        "no rows": ({"dataframe_records": []}, JSON),
        "no column video": ({"dataframe_records": [{"clip": text}]}, JSON),
        "a number": ({"dataframe_records": [{"video": 5}]}, JSON),
        "null video": ({"dataframe_records": [{"video": None}]}, JSON),
        "a number in inputs": video(5),
        "ragged split": ({"dataframe_split": {"columns": ["video"], "data": [[text, text]]}}, JSON),
        "stars": ({"dataframe_records": [{"video": "***"}]}, JSON),
        "empty text": video(""),
        "a path": video("/etc/passwd"),
        "a URL": video("http://127.0.0.1:1/clip.mp4"),
        "no video": video(base64.b64encode(b"hello" * 50).decode()),
        "a playlist": video(base64.b64encode(playlist).decode()),
        "a cut video": video(base64.b64encode(clip[: len(clip) // 3]).decode()),
        "top_k zero": video(text, top_k=0),
        "top_k text": video(text, top_k="many"),
        "num_clips too large": video(text, num_clips=1000),
        "CSV without the column": ("a\n1\n", "text/csv"),
        "empty CSV": ("", "text/csv"),
        "CSV that is no text": (b"\xff\xfe", "text/csv"),
        "broken parquet": (b"PAR1 but no more", PARQUET),
        "parquet of numbers": (parquet(video=[5]), PARQUET),
    }


def test_every_bad_payload_answers_400_with_one_sentence(address: str, clip: bytes) -> None:
    payloads = bad_payloads(clip)
    assert len(payloads) >= 20
    for name, (body, content_type) in payloads.items():
        response = post(address, body, content_type)
        assert response.status_code == 400, (name, response.text)
        answer = response.json()
        assert set(answer) == {"error_code", "message"}, name
        assert answer["message"], name
        assert "\n" not in answer["message"], name
        for revealing in ("Traceback", 'File "', "site-packages", "root:", str(Path.home())):
            assert revealing not in response.text, (name, response.text)
    text = base64.b64encode(clip).decode()
    assert post(address, {"inputs": {"video": [text]}}).status_code == 200  # and it still answers
