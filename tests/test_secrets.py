import os

import pytest

from vjepa_mlflow.secrets import MASK, has_password, move_password_to_environment, without_password, without_secrets

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
        "postgresql:ann:hunter2@host/studies",
        "ann:hunter2@host:5000",
        "(ann:hunter2@host)",
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
    assert has_password(text)
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
    ],
)
def test_what_holds_none_is_left_alone(text: str) -> None:
    assert without_secrets(text) == text
    assert not has_password(text)


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "correct horse", "the server says: correct horse is wrong"),
        ("AWS_SECRET_ACCESS_KEY", "abc/def+ghi", "signed with abc%2Fdef%2Bghi"),
        ("MLFLOW_TRACKING_URI", "http://ann:p%40ssword@host", "Basic ann p@ssword"),
        ("STORAGE", "postgresql://ann:p%40ssword@host/x", "parsed as p@ssword"),
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
    ],
)
def test_an_address_without_its_password_still_leads_there(address: str, bare: str) -> None:
    assert without_password(address) == bare


def test_mlflow_gets_user_and_password_by_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "another")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:p%40ss@server:5000/mlflow")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://ann:hunter2@host/db")
    move_password_to_environment()
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://server:5000/mlflow"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "p@ss")
    assert os.environ["MLFLOW_REGISTRY_URI"] == "postgresql://ann:hunter2@host/db"
