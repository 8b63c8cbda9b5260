"""Disks that are full: the store's, the checkpoints', the tracking store's. On small file systems of their own."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from helpers import points
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, UserError, train, upload
from vjepa_mlflow.stages.checkpoints import Checkpoints
from vjepa_mlflow.tracking import FAILURE_TAG, UndeliveredError
from vjepa_mlflow.training import TrainingState

pytestmark = pytest.mark.usefixtures("undrawn")

Resize = Callable[[str], None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Resize]]:
    """A file system of its own, and what gives it another size. Skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    if mount("size=64m") != 0:
        pytest.skip("may not mount a file system")
    yield folder, lambda size: mount(f"remount,size={size}") and None
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def recipe(small_data: Path) -> Recipe:
    return Recipe(data=str(small_data), model="tiny", epochs=2, learning_rate=1e-3)


@pytest.fixture(scope="module")
def expected(module_tracking: Path, recipe: Recipe) -> dict[str, list[tuple[int, float]]]:
    """The points of a run that had room."""
    return points(train(recipe).run_id)


@pytest.mark.parametrize(
    ("cache", "size", "reason"),
    [
        ("disk", "100k", "what is logged cannot be kept there .*No space left on device"),
        ("disk", "300k", "No space left on device"),  # wherever it is met first
        ("memory", "2m", "the checkpoint cannot be written .*No space left on device"),
    ],
)
def test_a_run_goes_on_when_there_is_room_again(
    expected: dict[str, list[tuple[int, float]]],
    tracking: str,
    recipe: Recipe,
    small_disk: tuple[Path, Resize],
    monkeypatch: pytest.MonkeyPatch,
    cache: str,
    size: str,
    reason: str,
) -> None:
    folder, resize = small_disk
    offer = Checkpoints.offer

    def offer_and_wait(checkpoints: Checkpoints, state: TrainingState) -> None:  # or the training might end before
        offer(checkpoints, state)
        checkpoints.finish_writing()

    monkeypatch.setattr(Checkpoints, "offer", offer_and_wait)
    recipe = replace(recipe, cache=cache, cache_budget=1)
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(folder))
    resize(size)
    with pytest.raises(UserError, match=reason):
        train(recipe, save_steps=1)
    stopped = mlflow.search_runs(output_format="list")[0]
    assert stopped.info.status == "FAILED"
    assert "No space left on device" in stopped.data.tags[FAILURE_TAG]
    resize("256m")
    resumed = train(recipe, resume="auto")
    assert resumed.run_id == stopped.info.run_id
    assert points(resumed.run_id) == expected


def test_what_the_tracking_stores_disk_does_not_take_is_uploaded_later(
    expected: dict[str, list[tuple[int, float]]],
    tracking: str,
    recipe: Recipe,
    small_disk: tuple[Path, Resize],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, resize = small_disk
    monkeypatch.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("small", artifact_location=str(folder / "artifacts"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "small")
    resize("4m")
    with pytest.raises(UndeliveredError, match=r"No space left on device|disk is full") as missing:
        train(recipe)
    resize("64m")
    uploaded = upload(Path(str(missing.value).partition("vjepa-mlflow upload ")[2]))
    assert MlflowClient().get_run(uploaded.run_id).info.status == "FINISHED"
    assert points(uploaded.run_id) == expected
    assert mlflow.pyfunc.load_model(uploaded.model_uri)
