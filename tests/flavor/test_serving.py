"""A real `mlflow models serve` process, asked over HTTP."""

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import requests
from click.testing import CliRunner
from helpers import free_port, readme_block, server, write_video
from import_hooks import write_import_hook
from mutations import JSON, Body, draw_requests

from benchmarks.serving import load
from vjepa_mlflow import flavor
from vjepa_mlflow.cli import commands
from vjepa_mlflow.data import draw_clip
from vjepa_mlflow.model import load_classifier, load_processor, locate

PARQUET = "application/vnd.apache.parquet"


LABELS = ["left_clockwise", "right_clockwise"]
FUZZED = 250
FAULTY_WIDTH = 72
LIMITS = {"max_request_bytes": 4 * 2**20, "max_videos": 8}

FAULT = f"""
classify = module.ClipClassifier.__call__

def faulty(self, clips):
    if any(clip.shape[2] == {FAULTY_WIDTH} for clip in clips):
        raise RuntimeError("a secret of /secret/path")
    return classify(self, clips)

module.ClipClassifier.__call__ = faulty
"""
"""A fault of ours, for videos of one width."""


PROMOTE, SERVE = readme_block("bash", "promote models:/motions/1").splitlines()


@pytest.fixture(scope="module")
def folder(module_tracking: Path) -> Path:
    """The working directory, in whose tracking store `models:/motions@champion` is."""
    checkpoint = locate("tiny")
    classifier = load_classifier(checkpoint, LABELS, seed=0)
    flavor.log_model(classifier, load_processor(checkpoint), stride=4, registered_model_name="motions")
    assert CliRunner().invoke(commands, PROMOTE.split()[1:]).exit_code == 0
    return module_tracking


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The README's server, with limits from the environment, and with a fault."""
    write_import_hook(folder, "vjepa_mlflow.flavor.clip_classifier", FAULT)
    # Without the repository in it, the package comes from the model's own code folder, unless it is installed.
    changes = {"PYTHONPATH": str(folder), "MLFLOW_PYFUNC_INFERENCE_CONFIG": json.dumps(LIMITS)}
    assert SERVE.startswith("mlflow ")
    command = [sys.executable, "-m", *SERVE.split()]
    with server(command, folder=folder, health="/ping", port=free_port(), **changes) as url:
        yield url


def test_curl_and_transformers_agree_as_the_readme_has_it(
    address: str, folder: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "clip.mp4").write_bytes(clip)
    port, readme_port = address.rpartition(":")[2], SERVE.split()[-1]
    asked = readme_block("bash", "curl").replace(readme_port, port)
    answer = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout
    (prediction,) = json.loads(answer)["predictions"]
    (shown,) = json.loads(readme_block("json", "predictions"))["predictions"]
    assert prediction.keys() == shown.keys()
    assert [pair.keys() for pair in prediction["top_k"]] == [pair.keys() for pair in shown["top_k"]]

    capsys.readouterr()
    exec(readme_block("python", "from_pretrained"), {})
    scores = eval(capsys.readouterr().out.splitlines()[-1])
    assert {pair["label"]: pair["score"] for pair in prediction["top_k"]} == pytest.approx(scores, abs=1e-6)


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
    assert first["label"] in LABELS
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


def ask(address: str, videos: list[bytes], **params: Any) -> requests.Response:
    rows = [{"video": base64.b64encode(video).decode()} for video in videos]
    return post(address, {"dataframe_records": rows, "params": params})


def test_a_bad_video_is_reported_when_asked_for(address: str, clip: bytes) -> None:
    good, bad = ask(address, [clip, clip[:500]], bad_videos="report").json()["predictions"]
    assert good["error"] == ""
    assert good["label"] in LABELS
    assert (bad["label"], bad["score"], bad["top_k"]) == ("", None, [])
    assert bad["error"].startswith("it cannot be decoded")


def test_a_cut_video_is_predicted_with_a_warning(address: str, tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mkv", frames=200, codec="mpeg4", size=(320, 240)).read_bytes()
    (whole,) = ask(address, [content]).json()["predictions"]
    (cut,) = ask(address, [content[: len(content) // 2]]).json()["predictions"]
    assert whole["warning"] == ""
    assert cut["warning"].startswith("cut off or damaged")
    assert cut["label"] in LABELS


def test_many_clients_get_the_answers_that_they_get_alone(address: str) -> None:
    videos = [draw_clip("left_clockwise", seed=seed) for seed in range(6)]
    alone = [ask(address, [video]).json()["predictions"][0] for video in videos]
    assert len({answer["score"] for answer in alone}) == 6
    with ThreadPoolExecutor(12) as clients:
        together = list(clients.map(lambda video: ask(address, [video]).json()["predictions"][0], videos * 6))
    for answer, expected in zip(together, alone * 6, strict=True):
        assert answer["label"] == expected["label"]
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-6)
    assert [answer["score"] for answer in ask(address, videos).json()["predictions"]] == pytest.approx(
        [answer["score"] for answer in alone], abs=1e-6
    )


def test_a_fault_of_ours_answers_500_without_saying_what_and_nobody_else_sees_it(
    address: str, clip: bytes, tmp_path: Path
) -> None:
    wrong = write_video(tmp_path / "a.mp4", size=(FAULTY_WIDTH, 48)).read_bytes()
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda video: ask(address, [video]), [clip, wrong, clip] * 8))
    assert [answer.status_code for answer in answers] == [200, 500, 200] * 8
    assert answers[1].json() == {
        "error_code": "INTERNAL_ERROR",
        "message": "The model failed on this request; its log says why.",
    }


def test_limits_from_the_environment_hold(address: str, clip: bytes) -> None:
    most = LIMITS["max_request_bytes"]
    assert ask(address, [clip] * 8).status_code == 200
    for videos, reason in (
        ([clip] * 9, "The request holds 9 videos: expected at most 8 (max_videos)."),
        ([bytes(most)], f"The request is too large: expected at most {most} bytes (max_request_bytes)."),
    ):
        answer = ask(address, videos)
        assert (answer.status_code, answer.json()["message"]) == (400, reason)


def server_process(address: str) -> psutil.Process:
    port = int(address.rpartition(":")[2])
    sockets = psutil.net_connections("tcp")
    (pid,) = {one.pid for one in sockets if one.status == psutil.CONN_LISTEN and one.laddr.port == port}
    return psutil.Process(pid)


def test_its_speed_is_measured(address: str, clip: bytes) -> None:
    serving = server_process(address)
    found = load(address, serving, clip, clients=4, requests=60, memory_after=[30, 60])
    assert (found["requests"], found["failed"]) == (60, 0)
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["memory_mib"][60] == pytest.approx(found["memory_mib"][30], rel=0.1)


def send(address: str, body: Body) -> requests.Response:
    headers = {} if body.content_type is None else {"Content-Type": body.content_type.encode("latin-1")}
    return requests.post(f"{address}/invocations", data=body.content, headers=headers, timeout=60)


def test_whatever_clients_send_is_answered_with_a_sentence_or_a_prediction(
    address: str, clip: bytes, tmp_path: Path
) -> None:
    """Containers, base64 and JSON, each broken in many ways, from several clients at once."""
    formats = (("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9"), ("a.ts", "mpeg2video"))
    videos = [clip, *(write_video(tmp_path / name, codec=codec).read_bytes() for name, codec in formats)]
    expected = ask(address, [clip]).json()
    serving = server_process(address)

    def memory() -> int:
        return sum(one.memory_full_info().uss for one in [serving, *serving.children()])

    before = memory()
    with ThreadPoolExecutor(4) as clients:
        bodies = islice(draw_requests(videos, seed=7), FUZZED)
        for answer in clients.map(lambda body: send(address, body), bodies):
            assert answer.status_code in (200, 400), (answer.status_code, answer.text)
            if answer.status_code == 200:
                assert set(answer.json()["predictions"][0]) == {"label", "score", "top_k", "warning", "error"}
            else:
                assert set(answer.json()) == {"error_code", "message"}
                assert answer.json()["message"]
                for revealing in ("Traceback", 'File "', "site-packages", ".py", str(tmp_path), str(Path.home())):
                    assert revealing not in answer.text, answer.text
    assert memory() - before < 300 * 2**20
    assert ask(address, [clip]).json() == expected
