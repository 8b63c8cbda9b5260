"""What is to be done in a sweep's processes, and what they share."""

import shutil
from pathlib import Path

import yaml

from vjepa_mlflow import Recipe
from vjepa_mlflow.data import Sample, SeenVideos
from vjepa_mlflow.model import TINY_FOLDER
from vjepa_mlflow.search import read_plan
from vjepa_mlflow.search.assignment import Assignment

SWEEP = Path(__file__).parents[2] / "sweeps" / "baseline.yaml"


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
    seed, role = Assignment(plan=plan, recipe=recipe, encoded=recipe, count=1, **about).drawing()
    assert (seed, role(seen.digest), role("cd" * 32)) == (3, "train", None)
