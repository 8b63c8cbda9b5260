import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import EPOCH_METRICS, without_times
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2ForVideoClassification, get_scheduler

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import TRANSFORMERS, Head, freeze_backbone
from vjepa_mlflow.recipe import SCHEDULERS
from vjepa_mlflow.training import (
    DIRECTIONS,
    BestHead,
    DivergedError,
    HostMemory,
    Snapshot,
    TrainingState,
    fit,
    gradient,
    load_best,
    loop,
    predict,
    read_snapshot,
)
from vjepa_mlflow.training.adam import Adam
from vjepa_mlflow.training.gradient import AccumulatedGradient, HeadPasses

CLASSES = 3
CLIPS = 10


def tiny_model(seed: int = 0, **changes: float) -> VJEPA2ForVideoClassification:
    torch.manual_seed(seed)
    config = VJEPA2Config(
        crop_size=32,
        patch_size=16,
        frames_per_clip=4,
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_pooler_layers=1,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        num_labels=CLASSES,
        **changes,  # type: ignore[arg-type]
    )
    return freeze_backbone(VJEPA2ForVideoClassification(config))


class Clips:
    """Real features of random clips: an order of its own for each epoch of training, a fixed one for evaluation."""

    def __init__(self, model: VJEPA2ForVideoClassification, count: int = CLIPS, seed: int = 1):
        generator = torch.Generator().manual_seed(seed)
        self.pixels = torch.randn(count, 4, 3, 32, 32, generator=generator)
        self.labels = [index % CLASSES for index in range(count)]
        with torch.no_grad():
            self.features = model.vjepa2(pixel_values_videos=self.pixels, skip_predictor=True).last_hidden_state

    def __len__(self) -> int:
        return len(self.labels)

    def order(self, epoch: int) -> list[int]:
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(epoch)).tolist()

    def labelled(self, order: Sequence[int]) -> Iterator[LabelledFeatures]:
        return (LabelledFeatures(self.features[index], self.labels[index]) for index in order)


class Training:
    def __init__(self, kept: Clips):
        self._kept, self.labels = kept, kept.labels

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, epoch: int, *, first: int = 0) -> Iterator[LabelledFeatures]:
        return self._kept.labelled(self._kept.order(epoch)[first:])


class Evaluation:
    def __init__(self, kept: Clips):
        self._kept, self.labels = kept, kept.labels

    def __len__(self) -> int:
        return len(self._kept)

    def read(self) -> Iterator[LabelledFeatures]:
        return self._kept.labelled(range(len(self)))


def passes_of(model: VJEPA2ForVideoClassification) -> HeadPasses:
    return HeadPasses(Head.of(model), precision="fp32", form=TRANSFORMERS)


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


def train_with_dropout(
    at_step: Callable[[TrainingState], None], *, scheduler: str = "constant", resume: Snapshot | None = None
) -> TrainingState:
    """Four epochs of three windows each, which are the same every time."""
    model = tiny_model(attention_probs_dropout_prob=0.1)
    clips = Clips(model)
    sets: Any = {"train": Training(clips), "val": Evaluation(clips)}
    recipe = Recipe(epochs=4, learning_rate=1e-3, scheduler=scheduler)
    torch.manual_seed(5)
    calls: Any = {"on_epoch": at_step, "on_step": at_step}
    return fit(passes_of(model), **sets, recipe=recipe, resume=resume, **calls)


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


def test_memory_that_is_used_again_holds_the_newest_state(tmp_path: Path) -> None:
    memory = HostMemory()
    paths = [tmp_path / "again.safetensors", tmp_path / "new.safetensors"]
    places: list[dict[str, int]] = []

    def compare(state: TrainingState) -> None:
        snapshots = state.snapshot(memory), state.snapshot()
        for snapshot, path in zip(snapshots, paths, strict=True):
            snapshot.write(path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        kept = snapshots[0].tensors
        places.append({name: kept[name].data_ptr() for name in kept if name.startswith(("head", "best", "optimizer"))})

    train_with_dropout(compare)
    assert all(used.items() <= places[-1].items() for used in places)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_state_that_was_tampered_with_is_refused(tmp_path: Path, place: float) -> None:
    model = tiny_model()
    clips = Clips(model)
    sets: Any = {"train": Training(clips), "val": Evaluation(clips)}
    path = tmp_path / "state.safetensors"
    recipe = Recipe(epochs=1)
    fit(passes_of(model), **sets, recipe=recipe, on_epoch=lambda state: state.snapshot().write(path))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path}: (was changed after it was written|cannot be read)"):
        fit(passes_of(model), **sets, recipe=recipe, on_epoch=lambda _: None, resume=read_snapshot(path))


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


@pytest.mark.parametrize("content", [b"", b"no safetensors", None])
def test_a_state_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path}: cannot be read as a training state \("):
        load_best(path)


def test_the_best_head_is_kept_with_the_metrics_of_every_epoch(tmp_path: Path) -> None:
    model = tiny_model()
    clips = Clips(model)
    sets: Any = {"train": Training(clips), "val": Evaluation(clips)}
    trained = fit(passes_of(model), **sets, recipe=Recipe(epochs=3, learning_rate=1e-3), on_epoch=lambda _: None)
    trained.save_best(tmp_path / "head.safetensors")
    best, epochs = load_best(tmp_path / "head.safetensors")
    assert (best.epoch, best.metrics, epochs) == (trained.best.epoch, trained.best.metrics, trained.epochs)
    assert all(torch.equal(best.weights[name], tensor) for name, tensor in trained.best.weights.items())


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


class Narrow(torch.nn.Module):
    """A head in a memory that so many clips fit."""

    def __init__(self, head: Head, most: int):
        super().__init__()
        self.head, self.most = head, most

    def forward(self, features: Tensor) -> Tensor:
        if len(features) > self.most:
            raise MemoryError
        return self.head(features)


def test_validation_takes_as_many_clips_at_once_as_fit() -> None:
    model = tiny_model()
    clips: Any = Evaluation(Clips(model))
    expected = predict(Head.of(model), clips, precision="fp32", name="whole")
    found = predict(Narrow(Head.of(model), 3), clips, precision="fp32", name="parts")  # type: ignore[arg-type]
    assert torch.equal(found.labels, expected.labels)
    assert torch.allclose(found.logits, expected.logits, atol=1e-6)
    with pytest.raises(UserError, match=r"^device=cpu: its memory is too small for the head with one clip at once"):
        predict(Narrow(Head.of(model), 0), clips, precision="fp32", name="none")  # type: ignore[arg-type]


def test_what_else_takes_memory_goes_before_a_batch_is_divided() -> None:
    model = tiny_model()
    clips: Any = Evaluation(Clips(model))
    narrow = Narrow(Head.of(model), 3)

    def make_room() -> bool:
        narrow.most = CLIPS
        return True

    expected = predict(Head.of(model), clips, precision="fp32", name="whole")
    found = predict(narrow, clips, precision="fp32", name="whole", make_room=make_room)  # type: ignore[arg-type]
    assert torch.equal(found.logits, expected.logits)


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
