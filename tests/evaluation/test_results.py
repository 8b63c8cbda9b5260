import json
from dataclasses import fields

import numpy as np
from evaluations import predictions_of_hits

from vjepa_mlflow.evaluation import Evaluation, evaluate
from vjepa_mlflow.video import VideoProperties


def grouped(groups: int) -> Evaluation:
    """Of 40 videos, two of them wrong."""
    light = np.linspace(0, 1, 40)
    zeros = {field.name: 0.0 for field in fields(VideoProperties)}
    properties = [VideoProperties(**{**zeros, "brightness": value}) for value in light]
    predictions = predictions_of_hits(np.arange(40) % 20 > 0, np.arange(40) % groups)
    return evaluate([str(row) for row in range(40)], predictions, properties)


def test_a_set_of_few_groups_says_so_in_place_of_intervals() -> None:
    found = grouped(3)
    assert "Accuracy           0.950  (too few groups)" in found.summary().splitlines()
    assert found.summary().count("(too few groups)") == 6
    assert "too few groups" not in grouped(4).summary()


def test_its_tables_have_null_for_them() -> None:
    for name, columns in {"metrics": ["low", "high"], "slices": ["low", "high"], "classes": ["recall_low"]}.items():
        for groups, absent in ((3, True), (8, False)):
            rows = json.loads(grouped(groups).tables()[name].to_json(orient="records"))
            assert rows
            for row in rows:
                assert all((row[column] is None) == absent for column in columns)
