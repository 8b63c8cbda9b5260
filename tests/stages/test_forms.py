from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_mlflow import Recipe, training
from vjepa_mlflow.stages import forms
from vjepa_mlflow.stages.forms import Forms, Workload, choose_forms
from vjepa_mlflow.training import loop


@pytest.mark.parametrize(
    ("resumed", "expected"),
    [
        ({}, ("chosen", "chosen")),
        ({"data": "demo"}, ("chosen", "chosen")),  # killed before anything was computed
        ({"checkpoint_revision": "sha256:1"}, ("lean", "lean")),  # of an older version
        ({"checkpoint_revision": "sha256:1", "encoder_form": "eager", "head_form": "lean"}, ("eager", "lean")),
    ],
)
def test_what_goes_on_keeps_the_forms_it_began_in(
    resumed: dict[str, str], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def choose(*_: object, resumed: str | None, clips: int = 0, accumulation_sizes: int = 0) -> str:
        trained.append((clips, accumulation_sizes))
        return resumed or "chosen"

    monkeypatch.setattr(forms.features, "choose_form", choose)
    monkeypatch.setattr(forms.training, "choose_head_form", choose)
    dataset = SimpleNamespace(splits={"train": [1, 2, 3], "val": [], "test": []})
    opened: Any = SimpleNamespace(backbone=None, head=None)
    workload = Workload(trials=20, accumulation_sizes=4)
    chosen = choose_forms(opened, dataset, Recipe(epochs=5), workload=workload, resumed=resumed)  # type: ignore[arg-type]
    assert chosen == Forms(*expected)
    assert trained == [(0, 0), (5 * 20 * 3, 4)]


def test_a_head_is_compiled_where_each_size_of_window_wins_its_time_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "head_forms", lambda _: ["lean", "eager"])
    head: Any = None
    for precision, pays in loop.COMPILING_PAYS.items():
        recipe = Recipe(precision=precision)  # type: ignore[arg-type]
        assert training.choose_head_form(head, recipe, clips=pays - 1) == "eager"
        assert training.choose_head_form(head, recipe, clips=pays) == "lean"
        assert training.choose_head_form(head, recipe, clips=pays, accumulation_sizes=2) == "eager"
        assert training.choose_head_form(head, recipe, clips=2 * pays, accumulation_sizes=2) == "lean"
        assert training.choose_head_form(head, recipe, clips=pays, resumed="eager") == "eager"
