import os
from pathlib import Path

import pytest

from vjepa_mlflow.stages.prediction_files import COLUMNS, PredictionFile, PredictionRow, path_in_row

NAMES = [
    "a\rb.mp4",
    "\r.mp4",
    'q"uo,te\n.mp4',
    "=1+1.mp4",
    "-x.mp4",
    "@.mp4",
    "+.mp4",
    os.fsdecode(b"\xff\r.mp4"),
    "\ue000.mp4",
]


def row(path: str) -> PredictionRow:
    return {"path": path, "label": "=a", "score": 0.5, "warning": "", "error": "", "model": "m", "num_clips": 1}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_any_name_is_found_again_and_none_is_a_formula(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"predictions{suffix}"
    paths = [path_in_row(Path(name)) for name in NAMES]
    assert not [path for path in paths if path.startswith(("=", "+", "-", "@", "\r"))]
    file = PredictionFile(output, model="m", num_clips=1)
    for path in paths:
        file.append(row(path))
    file.close()
    again = PredictionFile(output, model="m", num_clips=1)
    again.close()
    assert again.paths == set(paths)


def test_what_an_older_version_wrote_is_gone_on_with(tmp_path: Path) -> None:
    output = tmp_path / "predictions.csv"
    output.write_bytes(f"{','.join(COLUMNS)}\na\rb.mp4,x,0.5,,,m,1\n=1+1.mp4,x,0.5,,,m,1\n".encode())
    file = PredictionFile(output, model="m", num_clips=1)
    file.close()
    assert file.paths == {"a\rb.mp4", "./=1+1.mp4"}
