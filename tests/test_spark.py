"""Batch scoring on Spark, with the README's own program."""

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import pandas as pd
import pytest
from helpers import environment, readme_block
from import_hooks import write_import_hook

from vjepa_mlflow import flavor, predict, promote
from vjepa_mlflow.model import load_classifier, load_processor, locate

LOCAL = (
    "--master local[1] --driver-java-options -XX:TieredStopAtLevel=1 "
    "--conf spark.driver.bindAddress=127.0.0.1 --conf spark.driver.host=127.0.0.1 pyspark-shell"
)
OPTIONS = {
    # A task for each file, so that every process has several.
    "spark.sql.files.openCostInBytes": "1g",
    "spark.sql.files.maxPartitionBytes": "1g",
    "spark.ui.enabled": "false",
}

COUNTING = """
import os

make = module.VideoClassifier.__init__

def counted(*arguments, **named):
    with open(os.environ["LOADS"], "a") as loads:
        loads.write(f"{os.getpid()}\\n")
    make(*arguments, **named)

module.VideoClassifier.__init__ = counted
"""
"""Notes in which process a model is made."""


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java: apt-get install openjdk-17-jre-headless")
def test_labels_are_those_of_predict_and_each_process_loads_the_model_once(
    tracking: str, small_data: Path, tmp_path: Path
) -> None:
    checkpoint = locate("tiny")
    classifier = load_classifier(checkpoint, ["ape", "bee"], seed=0)
    flavor.log_model(classifier, load_processor(checkpoint), stride=4, registered_model_name="motions")
    promote("models:/motions/1", "champion")
    videos = tmp_path / "videos"
    shutil.copytree(small_data / "val", videos)
    (videos / "a bad one.mp4").write_bytes(b"\0no video")
    write_import_hook(tmp_path, "vjepa_mlflow.flavor.video_classifier", COUNTING)

    program = readme_block("python", "spark_udf").replace("/path/to/videos", str(videos))
    options = " ".join(f"--conf {name}={value}" for name, value in OPTIONS.items())
    subprocess.run(
        [sys.executable, "-c", program],
        env=environment(
            PYSPARK_SUBMIT_ARGS=f"{options} {LOCAL}",
            PYTHONPATH=f"{tmp_path}:{environment()['PYTHONPATH']}",
            PYSPARK_PYTHON=sys.executable,
            LOADS=str(tmp_path / "loads"),
        ),
        check=True,
        capture_output=True,
        text=True,
    )
    rows = pd.read_parquet("predictions")
    found = {unquote(urlparse(row.path).path): row for row in rows.itertuples()}
    expected = list(predict("models:/motions@champion", [videos]))
    assert len(rows) == len(found) == len(expected) == 5
    for row in expected:
        assert (found[row["path"]].label, found[row["path"]].error) == (row["label"], row["error"])
        if not row["error"]:
            assert found[row["path"]].score == pytest.approx(row["score"], abs=1e-6)
    assert sum(bool(row["error"]) for row in expected) == 1
    # Each file is a task. Spark may start another process while one that has just ended its task is not back yet.
    loads = (tmp_path / "loads").read_text().split()
    assert len(loads) == len(set(loads)) < 4, loads
