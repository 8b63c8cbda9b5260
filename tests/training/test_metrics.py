import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

from vjepa_mlflow.training import classification_metrics


def test_the_figures_are_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 9, generator=generator)
    labels = torch.randint(0, 8, (200,), generator=generator)  # class 8 never occurs
    predicted, scores, classes = logits.argmax(1), logits.double().softmax(1), list(range(9))
    assert classification_metrics(logits, labels) == pytest.approx(
        {
            "loss": log_loss(labels, scores, labels=classes),
            "accuracy": accuracy_score(labels, predicted),
            "top5_accuracy": top_k_accuracy_score(labels, scores, k=5, labels=classes),
            "balanced_accuracy": torch.tensor([(predicted[labels == c] == c).float().mean() for c in range(8)])
            .mean()
            .item(),
        },
        abs=1e-5,
    )
    present = predicted < 8
    assert balanced_accuracy_score(labels[present], predicted[present]) == pytest.approx(
        classification_metrics(logits[present][:, :8], labels[present])["balanced_accuracy"], abs=1e-5
    )


def test_two_classes_have_a_top_five_of_one() -> None:
    assert classification_metrics(torch.eye(2), torch.tensor([1, 0]))["top5_accuracy"] == 1.0
