"""A training's state: that who goes back to it ends as who never stopped, to the last bit."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import without_times
from trainings import Clips, Evaluation, Training, passes_of, tiny_model, train_with_dropout

from vjepa_mlflow import Recipe
from vjepa_mlflow.training import Predictions, TrainingState, fit, load_best, read_snapshot
from vjepa_mlflow.training.adam import Adam
from vjepa_mlflow.training.gradient import AccumulatedGradient


def check_same(resumed: TrainingState, whole: TrainingState) -> None:
    assert [without_times(metrics) for metrics in resumed.epochs] == [
        without_times(metrics) for metrics in whole.epochs
    ]
    assert resumed.best.epoch == whole.best.epoch
    for name, tensor in whole.best.weights.items():
        assert torch.equal(resumed.best.weights[name], tensor), name
    for name, tensor in whole.head.state_dict().items():
        assert torch.equal(resumed.head.state_dict()[name], tensor), name


@pytest.mark.parametrize("scheduler", ["constant", "cosine"])
@pytest.mark.parametrize("stopped_at", [(0, 1, 1), (1, 0, 3), (1, 2, 5), (2, 3, 9), (3, 0, 9)])
def test_training_that_is_resumed_ends_with_the_same_bits(
    tmp_path: Path, scheduler: str, stopped_at: tuple[int, int, int]
) -> None:
    """Stopped after so many epochs, so many windows of the next one, of three, and so many steps."""
    epochs, windows, steps = stopped_at
    path = tmp_path / "state.safetensors"
    train = partial(train_with_dropout, scheduler=scheduler)

    def stop(state: TrainingState) -> None:
        if (len(state.epochs), state.open_epoch.steps, state.steps) == (epochs, windows, steps):
            state.snapshot().write(path)
            raise KeyboardInterrupt

    whole = train(lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        train(stop)
    taken: list[int] = []
    resumed = train(lambda state: taken.append(state.steps), resume=read_snapshot(path))
    assert min(taken) >= steps
    check_same(resumed, whole)


def test_a_training_that_fails_in_a_window_is_resumed_before_it_and_in_a_step_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, step = AccumulatedGradient.compute, Adam.step
    states: list[TrainingState] = []

    def fail_after(really: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any) -> Any:
            done = really(*arguments)
            if states and states[-1].steps == 4:
                raise RuntimeError("failed")
            return done

        return work

    whole = train_with_dropout(lambda _: None)
    monkeypatch.setattr(AccumulatedGradient, "compute", fail_after(compute))  # by when its random numbers are drawn
    with pytest.raises(RuntimeError, match="failed"):
        train_with_dropout(states.append)
    assert states[-1].is_whole
    states[-1].snapshot().write(tmp_path / "state.safetensors")
    monkeypatch.setattr(AccumulatedGradient, "compute", compute)
    check_same(train_with_dropout(lambda _: None, resume=read_snapshot(tmp_path / "state.safetensors")), whole)

    states.clear()
    monkeypatch.setattr(Adam, "step", fail_after(step))
    with pytest.raises(RuntimeError, match="failed"):
        train_with_dropout(states.append)
    assert not states[-1].is_whole


def test_the_best_head_is_kept_with_the_metrics_of_every_epoch(tmp_path: Path) -> None:
    model = tiny_model()
    clips = Clips(model)
    sets: Any = {"train": Training(clips), "val": Evaluation(clips)}
    trained = fit(passes_of(model), **sets, recipe=Recipe(epochs=3, learning_rate=1e-3), on_epoch=lambda _: None)
    trained.save_best(tmp_path / "head.safetensors")
    best, epochs = load_best(tmp_path / "head.safetensors")
    assert (best.epoch, best.metrics, epochs) == (trained.best.epoch, trained.best.metrics, trained.epochs)
    assert all(torch.equal(best.weights[name], tensor) for name, tensor in trained.best.weights.items())


def linear_state() -> TrainingState:
    torch.manual_seed(0)
    head: Any = torch.nn.Linear(3, 2)
    return TrainingState(head, Adam(head.parameters()))


def test_a_state_is_whole_but_where_a_change_of_it_failed() -> None:
    state = linear_state()
    assert state.is_whole
    with state.changing():
        assert not state.is_whole
    assert state.is_whole
    with pytest.raises(RuntimeError, match="failed"), state.changing():
        raise RuntimeError("failed")
    assert not state.is_whole


def test_a_state_goes_back_to_a_snapshot_that_is_whole_again() -> None:
    state = linear_state()
    with state.changing():
        state.end_step(Predictions(torch.randn(4, 2), torch.tensor([0, 1, 0, 1])), 1e-3, seconds=2.0)
    snapshot = state.snapshot()
    state.is_whole = False
    state.end_epoch({"val_accuracy": 1.0, "val_loss": 0.0}, "val_accuracy")
    state.head.load_state_dict({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})
    state.load(snapshot)
    assert state.is_whole
    assert (state.epochs, state.steps, state.open_epoch.steps) == ([], 1, 1)
    assert (state.open_epoch.seconds, state.open_epoch.learning_rate) == (2.0, 1e-3)
    assert torch.equal(state.head.state_dict()["weight"], linear_state().head.state_dict()["weight"])


def test_random_numbers_go_on_where_the_state_was_whole_last() -> None:
    state = linear_state()
    with state.changing():
        pass
    drawn = torch.rand(3)
    snapshot = state.snapshot()  # after numbers that belong to what has not ended
    state.load(snapshot)
    assert torch.equal(torch.rand(3), drawn)


def test_the_best_epoch_stays_with_its_weights_while_training_goes_on() -> None:
    state = linear_state()
    weights = []
    for accuracy in (0.5, 0.9, 0.7):
        weights.append({"weight": torch.rand(2, 3), "bias": torch.rand(2)})
        state.head.load_state_dict(weights[-1])
        with state.changing():
            state.end_epoch({"val_accuracy": accuracy, "val_loss": 1.0}, "val_accuracy")
    assert (state.best.epoch, state.best.metrics["val_accuracy"]) == (2, 0.9)
    assert all(torch.equal(state.best.weights[name], value) for name, value in weights[1].items())
