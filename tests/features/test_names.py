"""Names of features, by which users' stores hold them."""

from pathlib import Path

import pytest

from vjepa_mlflow.data import Sample
from vjepa_mlflow.features import Clip
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.video import View

SPACE = FeatureSpace("backbone", "processor", 16, 4, 0.0, "bf16", "lean")


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (View(), "595ae575d2ecb2fe"),
        (View(0.1, 0.2, 0.3, flip=True), "cad99aebc1fa1858"),
        (View(0.1), "e870b998676c8e42"),
        (View(flip=True), "57838ca8f74e17ec"),
    ],
)
def test_names_stay_as_they_are(view: View, name: str) -> None:
    sample = Sample(Path("a.mp4"), "a.mp4", "a", digest="digest")
    assert SPACE.entry(Clip(sample, view))[:16] == name
