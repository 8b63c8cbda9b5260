from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_mlflow import Recipe
from vjepa_mlflow.jobs import forms
from vjepa_mlflow.jobs.forms import Forms, choose_forms


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        (None, ("chosen", "chosen")),
        ({"data": "demo"}, ("chosen", "chosen")),  # killed before anything was computed
        ({"checkpoint_revision": "sha256:1"}, ("lean", "lean")),  # of an older version
        ({"checkpoint_revision": "sha256:1", "encoder_form": "eager", "head_form": "lean"}, ("eager", "lean")),
    ],
)
def test_what_goes_on_keeps_the_forms_it_began_in(
    begun: dict[str, str] | None, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def choose(*_: object, begun: str | None, clips: int = 0) -> str:
        trained.append(clips)
        return begun or "chosen"

    monkeypatch.setattr(forms.features, "choose_form", choose)
    monkeypatch.setattr(forms.training, "choose_head_form", choose)
    dataset = SimpleNamespace(splits={"train": [1, 2, 3], "val": [], "test": []})
    prepared: Any = SimpleNamespace(dataset=dataset, backbone=None, head=None)
    assert choose_forms(prepared, Recipe(epochs=5), trials=20, begun=begun) == Forms(*expected)
    assert trained == [0, 5 * 20 * 3]
