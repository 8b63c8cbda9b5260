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
    single = small_data / "val" / "left_clockwise" / "5.mp4"
    rows = predict(model_uri, [single, small_data / "test"])
    assert [row["path"] for row in rows] == [str(single), *sorted(map(str, (small_data / "test").rglob("*.mp4")))]
    assert all(row["label"] in ("ape", "bee") and 0.5 <= row["score"] <= 1 and not row["error"] for row in rows)


def test_a_bad_file_does_not_stop_the_others(model_uri: str, small_data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\x00\x00")
    rows = predict(model_uri, [bad, small_data / "val" / "left_clockwise"])
    assert rows[0]["score"] is None
    assert "cannot be decoded" in rows[0]["error"]
    assert [row["error"] for row in rows[1:]] == ["", ""]


@pytest.mark.parametrize("num_clips", [0, 33])
def test_the_number_of_clips_has_bounds(model_uri: str, small_data: Path, num_clips: int) -> None:
    with pytest.raises(UserError, match=f"num_clips={num_clips}: expected a whole number from 1 to 32"):
        predict(model_uri, [small_data], num_clips=num_clips)


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
        predict(uri or model_uri, [Path(path) if path else small_data])


def test_rows_are_in_the_file_as_soon_as_they_are_there(model_uri: str, small_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    videos = sorted((small_data / "val").rglob("*.mp4"))
    lines: list[int] = []

    def watch(path: Path) -> bytes:
        lines.append(len(output.read_text().splitlines()))
        return read_bytes(path)

    read_bytes = Path.read_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", watch)
        predict(model_uri, videos, output=output)
    assert lines == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"nowhere.* cannot be written"):
        predict(model_uri, videos, output=tmp_path / "nowhere" / "rows.csv")
