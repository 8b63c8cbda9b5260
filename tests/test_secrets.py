import os
import time

import pytest

from vjepa_mlflow.secrets import (
    MASK,
    has_password,
    move_password_to_environment,
    without_password,
    without_passwords,
    without_secrets,
)

PLANTED = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "http://ann:hunter2@server:5000",
        "tracking URI http://ann:hunter2@server:5000/x: it does not answer (refused)",
        "postgresql+psycopg2://ann:hunter2@host/studies?sslmode=require",
        "postgresql://ann:hun/ter:hunter2@@host/studies",
        "postgresql://host/studies?user=ann&password=hunter2",
        "host=db user=ann password=hunter2",
        "host=db user=ann password='a hunter2'",
        "storage=postgresql://ann:a'hunter2\"b@host/studies: it does not answer",
        "https://hunter2@host/x",
        "postgresql://host/studies?password=a'hunter2&x=1",
        "{'password': b'hunter2'}",
        "s3_secret_key=hunter2",
        "{'Authorization': 'Bearer hunter2'}",
        "Authorization: Basic hunter2=",
        "postgresql://ann@server:hunter2@server.postgres.database.azure.com/db",
        "host=db pwd=hunter2",
        "{'user': 'ann', 'password': 'hunter2'}",
        "PGPASSWORD=hunter2 vjepa-mlflow sweep",
        "AccountName=ann;AccountKey=hunter2==;EndpointSuffix=core",
        "https://bucket.s3.amazonaws.com/a?X-Amz-Signature=hunter2&X-Amz-Date=1",
        "https://ann.blob.core.windows.net/c?sv=1&sig=hunter2",
    ],
)
def test_a_password_is_masked_and_the_rest_stays(text: str) -> None:
    shown = without_secrets(text)
    assert PLANTED not in shown
    assert MASK in shown
    assert all(word in shown for word in ("host", "server") if word in text)


@pytest.mark.parametrize(
    "text",
    [
        "models:/walks@champion: it is now version 2",
        "http://127.0.0.1:5000/#/experiments/1: it answers again",
        "postgresql://ann@host/studies",
        "sqlite:////home/ann/mlflow.db",
        "data=/videos: classes/a@b.mp4: 3 tokens = few",
        "num_clips=0: expected a whole number from 1 to 32",
        "videos/cam 2:left@30fps.mp4",
        "max_token=5, signature=ModelSignature(inputs)",
    ],
)
def test_what_holds_none_is_left_alone(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "correct horse", "the server says: correct horse is wrong"),
        ("AWS_SECRET_ACCESS_KEY", "abc/def+ghi", "signed with abc%2Fdef%2Bghi"),
        ("MLFLOW_TRACKING_URI", "http://ann:p%40ssword@host", "Basic ann p@ssword"),
        ("STORAGE", "postgresql://ann:p%40ssword@host/x", "parsed as p@ssword"),
        ("MLFLOW_TRACKING_URI", "http://ann:hidden/password@host", "Failed to parse: 'ann:hidden'"),
        ("MLFLOW_TRACKING_URI", "postgresql://ann:a 'quoted word@host/x", "it says: a 'quoted word is wrong"),
        ("MLFLOW_TRACKING_URI", "ann:hunter2@host:5000", "no such scheme: ann:hunter2@host:5000"),
        ("MYSQL_PWD", "correct horse", "(correct horse)"),
        ("DB_PASS", "correct horse", "(correct horse)"),
        ("HF_TOKEN", "hf_1234567890", "Invalid: hf_1234567890. Retry"),
        ("MINIO_SECRET_KEY", "correct horse", "(correct horse)"),
    ],
)
def test_those_of_the_environment_are_masked_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, text: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert MASK in without_secrets(text)


@pytest.mark.parametrize(
    ("address", "bare"),
    [
        ("http://ann:hunter2@server:5000/x", "http://server:5000/x"),
        ("postgresql://ann:hunter2@host:5432/db", "postgresql://ann@host:5432/db"),
        ("postgresql://ann@host/db?password=hunter2", f"postgresql://ann@host/db?password={MASK}"),
        ("postgresql://ann@host/db", "postgresql://ann@host/db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("https://token@server/x", "https://server/x"),
        ("ann:hunter2@server:5000", "server:5000"),
        ("http://mlflow.corp:5000", "http://mlflow.corp:5000"),
        (
            "postgresql://mlflow:pw1234@db/mlflow?application_name=me@lab",
            "postgresql://mlflow@db/mlflow?application_name=me@lab",
        ),
        ("https://ann:hunter2@host/team@x", "https://host/team@x"),
        ("http://host:5000/team@x", "http://host:5000/team@x"),
        ("postgresql://ann:hun/ter2@host:5432/db", "postgresql://ann@host:5432/db"),
        ("postgresql://ann@server:hunter2@server.azure.com/db", "postgresql://ann@server@server.azure.com/db"),
    ],
)
def test_an_address_without_its_password_still_leads_there(address: str, bare: str) -> None:
    assert without_password(address) == bare
    assert has_password(address) == (address != bare)


def test_mlflow_gets_user_and_password_by_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "another")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:p%40ss@server:5000/mlflow")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://ann:hunter2@host/db")
    move_password_to_environment()
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://server:5000/mlflow"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "p@ss")
    assert os.environ["MLFLOW_REGISTRY_URI"] == "postgresql://ann:hunter2@host/db"


def test_each_server_keeps_its_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:secret-1@server:5000")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://bob:secret-2@registry:5000")
    move_password_to_environment()
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "secret-1")
    assert os.environ["MLFLOW_REGISTRY_URI"] == "https://bob:secret-2@registry:5000"
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name)


def test_a_password_that_is_a_common_word_leaves_commands_and_paths_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:mlflow@db/mlflow")
    command = "vjepa-mlflow upload /root/.cache/vjepa-mlflow/outbox/1/2"
    assert without_secrets(command) == command
    assert without_passwords("data: /data/mlflow/videos") == "data: /data/mlflow/videos"
    assert without_password("http://mlflow.corp:5000") == "http://mlflow.corp:5000"


@pytest.mark.parametrize("part", ["a:a:a:", "://a:", "x,y:", "password", "http://a"])
def test_a_long_text_takes_no_longer_than_its_length(part: str) -> None:
    text = part * (200_000 // len(part))
    begun = time.monotonic()
    without_secrets(text)
    assert time.monotonic() - begun < 2
