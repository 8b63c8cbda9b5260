"""What a job logs, and what becomes of it in its run."""

from pathlib import Path

import mlflow
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vjepa_mlflow.evaluation.figures import draw
from vjepa_mlflow.tracking import Job, run_log

JOB = Job.of("train", {"epochs": 5}, {"epochs": 5})


def test_tensorboard_has_figures_and_parameters(tracking: str, tmp_path: Path) -> None:
    png = draw(Figure(figsize=(2, 1), dpi=50))
    with run_log(JOB) as log:
        log.params({"epochs": 5})
        log.png(png, "empty.png", step=3)
    folder = Path(mlflow.artifacts.download_artifacts(run_id=log.run_id, dst_path=str(tmp_path)))
    assert (folder / "empty.png").read_bytes() == png
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    (image,) = events.Images("empty")
    assert (image.step, image.width, image.height) == (3, 100, 50)
    (text,) = events.Tensors("params/text_summary")
    assert b"| epochs | 5 |" in text.tensor_proto.string_val[0]
