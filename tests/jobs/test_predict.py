from pathlib import Path

import pytest

from vjepa_mlflow import UserError, flavor
from vjepa_mlflow.jobs.predict import predict
from vjepa_mlflow.model import load_classifier, load_processor, locate


@pytest.fixture(scope="module")
def model_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("predict") / "model"
    checkpoint = locate("tiny")
    flavor.save_model(load_classifier(checkpoint, ["ape", "bee"], seed=0), load_processor(checkpoint), path, stride=4)
    return str(path)


def test_files_and_folders_are_predicted_in_order(model_uri: str, small_data: Path) -> None:
    single = small_data / "val" / "slide_left" / "5.mp4"
    rows = list(predict(model_uri, [single, small_data / "test"]))
    assert [row["path"] for row in rows] == [str(single), *sorted(map(str, (small_data / "test").rglob("*.mp4")))]
    assert all(row["label"] in ("ape", "bee") and 0.5 <= row["score"] <= 1 and not row["error"] for row in rows)


def test_a_bad_file_does_not_stop_the_others(model_uri: str, small_data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\x00\x00")
    rows = list(predict(model_uri, [bad, small_data / "val" / "slide_left"]))
    assert rows[0]["score"] is None
    assert "cannot be decoded" in rows[0]["error"]
    assert [row["error"] for row in rows[1:]] == ["", ""]


@pytest.mark.parametrize(
    ("uri", "path", "reason"),
    [
        (None, "nowhere.mp4", "nowhere.mp4: no such file or folder"),
        (None, ".", "expected at least one video file"),
        ("models:/nothing/1", None, "models:/nothing/1: .*expected a logged model"),
        ("./no-model", None, "./no-model: .*expected a logged model"),
    ],
)
def test_what_is_not_there_is_named(
    tracking: str, model_uri: str, small_data: Path, uri: str | None, path: str | None, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        list(predict(uri or model_uri, [Path(path) if path else small_data]))
