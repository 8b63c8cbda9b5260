"""The gradient of an optimizer step, on a CPU; `test_loop.py` compares it with the model card's loop."""

import pytest
import torch
from trainings import CLASSES, Clips, Narrow, passes_of, tiny_model

from vjepa_mlflow.model import Head
from vjepa_mlflow.training import gradient
from vjepa_mlflow.training.gradient import AccumulatedGradient


def test_a_window_that_does_not_fit_is_halved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model()
    passes, narrow = passes_of(model), Narrow(Head.of(model), 1)
    monkeypatch.setattr(passes, "_forward", narrow)
    window = list(Clips(model).labelled(range(2)))
    AccumulatedGradient(passes, clips_per_step=2, class_weights=torch.ones(CLASSES)).compute(window)
    assert capsys.readouterr().err == "Memory ran out: 1 clips go through the head at once from here on\n"


def test_the_largest_recordings_go_where_there_is_no_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "Captured", lambda *_: None)  # which needs a GPU
    passes = passes_of(tiny_model())
    for size in (1, 2, 4, 8, 16):
        passes._recorded[size] = passes._record(torch.empty(size))
    assert set(passes._recorded) == {1, 2, 4, 8, 16}
    passes._record(torch.empty(5))
    assert set(passes._recorded) == {1, 2, 4, 8}
    assert passes.forget()
    assert not passes.forget()
