"""A head's predictions for a set, also where little memory is left."""

from typing import Any

import pytest
import torch
from trainings import CLIPS, Clips, Evaluation, Narrow, tiny_model

from vjepa_mlflow import UserError
from vjepa_mlflow.model import Head
from vjepa_mlflow.training import Predictions, predict
from vjepa_mlflow.training.predictions import EVALUATION_BATCH, gather


def test_a_head_predicts_without_dropout_and_is_in_training_again() -> None:
    model = tiny_model(attention_dropout=0.5)
    clips = Clips(model)
    head = Head.of(model)
    first, again = (predict(head, Evaluation(clips), precision="fp32", name="set") for _ in range(2))  # type: ignore[arg-type]
    assert torch.equal(first.logits, again.logits)
    assert first.labels.tolist() == clips.labels
    assert head.training
    assert torch.equal(first.logits, head.eval()(clips.features))


def test_each_batch_is_told_of_before_it_goes_through_the_head() -> None:
    model = tiny_model()
    clips = Clips(model, count=2 * EVALUATION_BATCH + 1)
    batches: list[int] = []
    predict(
        Head.of(model),
        Evaluation(clips),  # type: ignore[arg-type]
        precision="fp32",
        name="set",
        on_batch=lambda: batches.append(len(batches)),
    )
    assert batches == [0, 1, 2]


def test_predictions_are_put_one_after_the_other_and_none_are_refused() -> None:
    parts = [Predictions(torch.full((size, 2), float(size)), torch.full((size,), size)) for size in (1, 2)]
    together = gather(parts)
    assert together.logits.tolist() == [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]
    assert together.labels.tolist() == [1, 2, 2]
    with pytest.raises(UserError, match=r"^none of a set's videos can be read any more"):
        gather([])


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
