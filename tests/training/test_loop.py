import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import EPOCH_METRICS
from torch import Tensor
from trainings import CLASSES, Clips, Evaluation, Training, passes_of, tiny_model
from transformers import VJEPA2ForVideoClassification, get_scheduler

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.model import Head
from vjepa_mlflow.recipe import SCHEDULERS
from vjepa_mlflow.training import (
    DIRECTIONS,
    BestHead,
    DivergedError,
    HeadPasses,
    fit,
    gradient,
    loop,
    predict,
    read_snapshot,
)
from vjepa_mlflow.training.adam import Adam


def run(
    model: VJEPA2ForVideoClassification, train: Clips, val: Clips, **recipe: object
) -> tuple[BestHead, list[dict[str, float]]]:
    trained = fit(
        passes_of(model),
        train=Training(train),  # type: ignore[arg-type]
        val=Evaluation(val),  # type: ignore[arg-type]
        recipe=Recipe(**recipe),  # type: ignore[arg-type]
        on_epoch=lambda _: None,
    )
    return trained.best, trained.epochs


def card_loop(
    model: VJEPA2ForVideoClassification, clips: Clips, *, epochs: int, learning_rate: float, accumulation: int
) -> list[float]:
    """The model card's loop, written out: the whole model for one clip after the other, the labels given to it."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=learning_rate)
    losses = []
    for epoch in range(1, epochs + 1):
        order = clips.order(epoch)
        total = 0.0
        for start in range(0, len(order), accumulation):
            window = order[start : start + accumulation]
            for index in window:
                outputs = model(
                    pixel_values_videos=clips.pixels[index : index + 1], labels=torch.tensor([clips.labels[index]])
                )
                (outputs.loss / len(window)).backward()
                total += outputs.loss.item()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(total / len(order))
    return losses


def head_weights(model: VJEPA2ForVideoClassification) -> dict[str, Tensor]:
    return Head.of(model).state_dict()


@pytest.mark.parametrize("learning_rate", [1e-5, 1e-3])
def test_three_windows_the_last_one_partial_equal_the_cards_loop(learning_rate: float) -> None:
    ours, cards = tiny_model(), tiny_model()
    clips = Clips(ours)
    assert math.ceil(len(clips) / 4) == 3
    assert len(clips) % 4 == 2
    _, epochs = run(ours, clips, clips, epochs=2, learning_rate=learning_rate)
    losses = card_loop(cards, clips, epochs=2, learning_rate=learning_rate, accumulation=4)
    assert [metrics["train_loss"] for metrics in epochs] == pytest.approx(losses, abs=1e-6)
    before = head_weights(tiny_model())
    for name, tensor in head_weights(cards).items():
        assert torch.allclose(head_weights(ours)[name], tensor, rtol=0, atol=1e-6), name
        if "key.bias" not in name and "k_proj.bias" not in name:  # softmax is blind to it: its gradient is zero
            assert not torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2), (1, 4)])
def test_a_window_means_the_same_however_it_is_divided(batch_size: int, accumulation: int) -> None:
    divided, plain = tiny_model(), tiny_model()
    clips = Clips(plain, count=11)
    run(
        divided,
        clips,
        clips,
        epochs=1,
        learning_rate=1e-3,
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    card_loop(plain, clips, epochs=1, learning_rate=1e-3, accumulation=4)
    for name, tensor in head_weights(plain).items():
        assert torch.allclose(head_weights(divided)[name], tensor, rtol=0, atol=2e-5), name


def test_a_window_at_once_and_clip_by_clip_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, one_by_one = tiny_model(), tiny_model()
    clips = Clips(at_once)
    _, expected = run(at_once, clips, clips, epochs=3, learning_rate=1e-4)
    monkeypatch.setattr(gradient, "AT_ONCE", 1)
    _, epochs = run(one_by_one, clips, clips, epochs=3, learning_rate=1e-4)
    for first, second in zip(expected, epochs, strict=True):
        for name in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
            assert first[name] == pytest.approx(second[name], abs=1e-6)
    for name, tensor in head_weights(one_by_one).items():
        assert torch.allclose(head_weights(at_once)[name], tensor, rtol=0, atol=1e-6), name


def test_a_window_larger_than_what_goes_at_once_keeps_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "AT_ONCE", 3)
    divided, plain = tiny_model(), tiny_model()
    clips = Clips(plain, count=11)
    run(divided, clips, clips, epochs=1, learning_rate=1e-3, gradient_accumulation_steps=8)
    card_loop(plain, clips, epochs=1, learning_rate=1e-3, accumulation=8)
    for name, tensor in head_weights(plain).items():
        assert torch.allclose(head_weights(divided)[name], tensor, rtol=0, atol=2e-5), name


def test_the_backbone_does_not_move_and_stays_in_eval() -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.vjepa2.state_dict().items()}
    clips = Clips(model)
    run(model, clips, clips, epochs=1, learning_rate=1e-2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.vjepa2.state_dict().items())
    assert not model.vjepa2.training


def test_the_head_learns_and_the_best_epoch_is_kept() -> None:
    model = tiny_model()
    clips = Clips(model)
    best, epochs = run(model, clips, clips, epochs=12, learning_rate=3e-3)
    ranks = [(metrics["val_accuracy"], -metrics["val_loss"]) for metrics in epochs]
    assert max(ranks)[0] > 0.8
    assert best.epoch == ranks.index(max(ranks)) + 1
    assert best.metrics == epochs[best.epoch - 1]


def test_the_best_head_is_a_copy_that_later_epochs_leave_alone() -> None:
    model = tiny_model()
    clips = Clips(model)
    shuffled = Clips(model)
    shuffled.labels = [(label + 1) % CLASSES for label in shuffled.labels]  # the more is learnt, the worse it gets
    best, _ = run(model, clips, shuffled, epochs=8, learning_rate=3e-3)
    assert best.epoch < 8
    assert not torch.equal(best.weights["classifier.weight"], model.classifier.weight)
    Head.of(model).load_state_dict(best.weights)
    predictions = predict(Head.of(model), Evaluation(shuffled), precision="fp32", name="again")  # type: ignore[arg-type]
    accuracy = (predictions.logits.argmax(1) == predictions.labels).float().mean().item()
    assert accuracy == pytest.approx(best.metrics["val_accuracy"])


def test_patience_ends_a_run_that_gets_no_better() -> None:
    model = tiny_model()
    clips = Clips(model)
    wrong = Clips(model)
    wrong.labels = [(label + 1) % CLASSES for label in wrong.labels]
    best, epochs = run(model, clips, wrong, epochs=30, learning_rate=3e-3, patience=2)
    assert len(epochs) == best.epoch + 2 < 30


def test_patience_holds_over_a_resumption(tmp_path: Path) -> None:
    model = tiny_model()
    clips, wrong = Clips(model), Clips(model)
    wrong.labels = [(label + 1) % CLASSES for label in wrong.labels]
    sets: Any = {"train": Training(clips), "val": Evaluation(wrong)}
    recipe = Recipe(epochs=30, learning_rate=3e-3, patience=2)
    state = tmp_path / "state.safetensors"
    whole = fit(passes_of(model), **sets, recipe=recipe, on_epoch=lambda training: training.snapshot().write(state))
    resumed = fit(passes_of(model), **sets, recipe=recipe, on_epoch=lambda _: None, resume=read_snapshot(state))
    assert len(resumed.epochs) == len(whole.epochs) == whole.best.epoch + 2


@pytest.mark.parametrize("metric", DIRECTIONS)
def test_the_best_epoch_is_the_best_by_the_metric_that_is_asked_for(metric: str) -> None:
    model = tiny_model()
    clips, shuffled = Clips(model), Clips(model)
    shuffled.labels = [(label + index % 2) % CLASSES for index, label in enumerate(shuffled.labels)]
    sets: Any = {"train": Training(clips), "val": Evaluation(shuffled)}
    recipe = Recipe(epochs=6, learning_rate=3e-3)
    trained = fit(passes_of(model), **sets, recipe=recipe, on_epoch=lambda _: None, metric=metric)
    values = [metrics[metric] for metrics in trained.epochs]
    wanted = max(values) if DIRECTIONS[metric] == "maximize" else min(values)
    assert trained.best.metrics[metric] == wanted


def test_every_named_metric_is_there() -> None:
    model = tiny_model()
    _, (metrics,) = run(model, Clips(model), Clips(model), epochs=1)
    assert set(metrics) == EPOCH_METRICS
    assert metrics["learning_rate"] == 1e-5


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_are_those_of_transformers_to_the_bit(scheduler: str) -> None:
    steps = 2 * 3
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=8e-4)
    theirs = get_scheduler(scheduler, optimizer, num_warmup_steps=0, num_training_steps=steps)
    expected = []
    for _ in range(steps):
        expected += theirs.get_last_lr()
        optimizer.step()
        theirs.step()
    model = tiny_model()
    _, epochs = run(model, Clips(model, 12), Clips(model), epochs=2, learning_rate=8e-4, scheduler=scheduler)
    assert [metrics["learning_rate"] for metrics in epochs] == [expected[2], expected[5]]


def test_balanced_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    from vjepa_mlflow.training.loop import _class_weights

    labels = [0, 0, 0, 0, 1, 2, 2]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert _class_weights(labels, "balanced").tolist() == pytest.approx(expected.tolist())
    assert _class_weights(labels, "none").tolist() == [1, 1, 1]


def test_class_weights_weigh_the_loss_of_a_window() -> None:
    weighted, plain = tiny_model(), tiny_model()
    clips = Clips(plain, count=4)
    clips.labels = [0, 0, 1, 2]
    run(weighted, clips, clips, epochs=1, learning_rate=1e-3, class_weights="balanced")
    optimizer = torch.optim.Adam(Head.of(plain).parameters(), lr=1e-3)
    weight = torch.tensor([4 / 6, 4 / 3, 4 / 3])
    logits = plain(pixel_values_videos=clips.pixels).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor(clips.labels), weight=weight).backward()
    optimizer.step()
    for name, tensor in head_weights(plain).items():
        assert torch.allclose(head_weights(weighted)[name], tensor, rtol=0, atol=2e-5), name


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    model = tiny_model()
    clips = Clips(model)
    with pytest.raises(DivergedError, match="training loss became nan in epoch 1 with learning_rate=1e"):
        run(model, clips, clips, epochs=3, learning_rate=1e30)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_same_seed_gives_the_same_numbers(precision: str) -> None:
    runs = []
    for _ in range(2):
        model = tiny_model()
        clips = Clips(model)
        best, epochs = run(model, clips, clips, epochs=2, learning_rate=1e-3, precision=precision)
        runs.append(([{**metrics, "clips_per_second": 0} for metrics in epochs], best.weights))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])
    assert {tensor.dtype for tensor in runs[0][1].values()} == {torch.float32}


def test_memory_that_is_too_small_for_the_optimizer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(loop, "Adam", too_much)
    model = tiny_model()
    with pytest.raises(UserError, match=r"^device=cpu: its memory is too small to train the head: expected more"):
        run(model, Clips(model), Clips(model))

    def forget(_: HeadPasses) -> bool:
        monkeypatch.setattr(loop, "Adam", Adam)
        return True

    monkeypatch.setattr(HeadPasses, "forget", forget)
    run(model, Clips(model), Clips(model), epochs=1)
