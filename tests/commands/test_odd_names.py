"""Names of folders, classes and videos that a shell, a browser, a table or a terminal would obey."""

import csv
import shutil
from html.parser import HTMLParser
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from vjepa_mlflow.cli import main

FOLDER = 'it\'s "data" $(touch executed); `touch executed` & <b>'
LABELS = {
    "left_clockwise": "$(touch executed)'; touch executed; \"",
    "right_clockwise": "<img src=x onerror=alert(1)>right,{{7*7}}",
}
VIDEOS = (
    "new\nline.mp4",
    "'\"><img src=x onerror=alert(1)>.mp4",
    "$(touch executed)`touch executed`.mp4",
    "=1+1,2.mp4",
)


class Tags(HTMLParser):
    """What a browser would take for attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs


@pytest.fixture
def data(small_data: Path, tmp_path: Path) -> Path:
    for motion, label in LABELS.items():
        for split in ("train", "val", "test"):
            videos = sorted((small_data / split / motion).glob("*.mp4"))
            folder = tmp_path / FOLDER / split / label
            folder.mkdir(parents=True)
            for video, name in zip(videos, VIDEOS, strict=False):
                shutil.copy(video, folder / name)
    return tmp_path / FOLDER


def test_they_are_harmless(tracking: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--data", str(data), "--model", "tiny", "--epochs", "1"])
    (run,) = mlflow.search_runs(output_format="list")
    artifacts = Path(MlflowClient().download_artifacts(run.info.run_id, "", str(tmp_path / "artifacts")))

    with (artifacts / "split.csv").open(newline="") as file:
        rows = {(row["split"], row["label"], Path(row["path"]).name) for row in csv.DictReader(file)}
    expected = {(path.parent.parent.name, path.parent.name, path.name) for path in data.rglob("*.mp4")}
    assert rows == expected

    report = Tags()
    report.feed((artifacts / "report.html").read_text())
    assert ("src", "x") not in report.attributes
    assert not [name for name, _ in report.attributes if name.startswith("on")]

    (model,) = mlflow.search_logged_models(output_format="list")
    capsys.readouterr()
    main(["predict", model.model_uri, str(data / "test")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert not list(tmp_path.rglob("executed"))
