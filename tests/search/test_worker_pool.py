"""Who does what among the processes of a sweep."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from vjepa_mlflow import Recipe
from vjepa_mlflow.data import Sample, SeenVideos
from vjepa_mlflow.model import TINY_FOLDER
from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.processes import Started
from vjepa_mlflow.search import read_plan
from vjepa_mlflow.search import worker_pool as worker_pool

NOBODY = 1 << 22
"""Beyond all ids of processes."""

SWEEP = Path(__file__).parents[2] / "sweeps" / "baseline.yaml"


@pytest.mark.parametrize(
    ("device", "expected"), [("auto", ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]), ("cuda:2", ["cuda:2"] * 4)]
)
def test_each_has_a_gpu_of_its_own_as_far_as_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    started: list[worker_pool.Assignment] = []

    def start_process(_: object, assignment: worker_pool.Assignment) -> Started:
        started.append(assignment)
        ours, theirs = Channel.pair()
        theirs.close()
        return Started(ours, NOBODY + assignment.share.rank)

    monkeypatch.setattr(worker_pool, "start_process", start_process)
    recipe = Recipe(device=device)
    about = {"storage": "", "study": "", "run_id": "", "tracking_uri": ""}
    whole = worker_pool.Assignment(plan=read_plan(SWEEP), recipe=recipe, encoded=recipe, count=1, **about)
    with worker_pool.worker_pool(whole, 4) as pool:
        assert pool.process_ids() == [NOBODY + rank for rank in (1, 2, 3)]  # from the start on, for interrupts
        everyone = [whole.for_process(0, 4), *started]
    assert [each.recipe.device for each in everyone] == expected
    assert [each.encoded.device for each in everyone] == expected
    assert [each.share.rank for each in everyone] == [0, 1, 2, 3]


def test_what_any_of_the_tried_models_has_seen_keeps_its_split(tmp_path: Path) -> None:
    """So that trials of all models have one validation set, which none of them was trained on."""
    seen = Sample(Path("a"), "a", "a", digest="ab" * 32)
    models = [str(shutil.copytree(TINY_FOLDER, tmp_path / name)) for name in ("one", "two")]
    SeenVideos.of({"train": [seen]}).write(Path(models[1]))
    text = yaml.safe_load(SWEEP.read_text()) | {"space": {"model": {"choices": models}}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(text))
    recipe = Recipe(model=models[0], seed=3)
    about = {"storage": "", "study": "", "run_id": "", "tracking_uri": ""}
    plan = read_plan(tmp_path / "plan.yaml")
    seed, role = worker_pool.Assignment(plan=plan, recipe=recipe, encoded=recipe, count=1, **about).drawing()
    assert (seed, role(seen.digest), role("cd" * 32)) == (3, "train", None)
