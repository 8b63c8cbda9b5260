import hashlib
from pathlib import Path

from helpers import write_video

from vjepa_mlflow.video import inspect_videos


def test_every_file_is_reported_in_its_place(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    found = inspect_videos([good, empty, tmp_path / "missing.mp4"], num_frames=16, stride=4)
    assert [inspection.path.name for inspection in found] == ["good.mp4", "empty.mp4", "missing.mp4"]
    assert [inspection.fault is None for inspection in found] == [True, False, False]
    assert found[0].digest == hashlib.sha256(good.read_bytes()).hexdigest()
