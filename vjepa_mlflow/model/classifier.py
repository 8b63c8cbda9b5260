"""A frozen backbone and a head for new classes."""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.model.checkpoint import Checkpoint
from vjepa_mlflow.model.quiet import quiet_transformers


class ParameterCounts(NamedTuple):
    total: int
    trainable: int


class Head(nn.Module):
    """The part of a classifier that is trained: its attentive pooler and linear classifier.

    It shares its modules with the model that it was made from, so training it trains that model, and its state dict
    has the same names as there.
    """

    def __init__(self, model: VJEPA2ForVideoClassification):
        super().__init__()
        self.pooler = model.pooler
        self.classifier = model.classifier

    def forward(self, features: Tensor) -> Tensor:
        """Features of shape (clips, tokens, hidden size) to logits of shape (clips, classes)."""
        return self.classifier(self.pooler(features))


def load_classifier(checkpoint: Checkpoint, labels: list[str], *, seed: int) -> VJEPA2ForVideoClassification:
    """Loads a checkpoint for new classes, in fp32, its backbone frozen.

    The classifier keeps its weights only where the checkpoint has exactly these labels; otherwise it is drawn anew.

    Args:
        checkpoint: where the weights are.
        labels: the classes, in the order of the outputs; at least two, since transformers takes one for a regression.
        seed: of new weights; the caller's random state is left alone.

    Raises:
        UserError: the folder lacks weights of the backbone, or they do not fit its configuration.
    """
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of a pooler that the checkpoint may lack
            model, report = VJEPA2ForVideoClassification.from_pretrained(
                checkpoint.folder,
                num_labels=len(labels),
                id2label=dict(enumerate(labels)),
                label2id={label: index for index, label in enumerate(labels)},
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model={checkpoint.name}: cannot be loaded: {one_line(error)}") from error
    # transformers 4 names the mismatched keys; transformers 5 adds their shapes.
    mismatched = {entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"]}
    missing = set(report["missing_keys"]) | mismatched
    if lacking := sorted(key for key in missing if key.startswith("vjepa2.encoder.")):
        raise UserError(f"model={checkpoint.name}: weights missing or of another shape, such as {lacking[0]}")
    if labels != label_names(VJEPA2Config.from_pretrained(checkpoint.folder)) or any(
        key.startswith("classifier.") for key in missing
    ):
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(model.classifier.weight, std=model.config.initializer_range, generator=generator)
        nn.init.zeros_(model.classifier.bias)
    return freeze_backbone(model)


def load_processor(checkpoint: Checkpoint) -> VJEPA2VideoProcessor:
    """Loads the checkpoint's own preprocessing.

    Raises:
        UserError: the folder has no video processor configuration.
    """
    try:
        return VJEPA2VideoProcessor.from_pretrained(checkpoint.folder)
    except OSError:
        raise UserError(f"model={checkpoint.name}: no video_preprocessor_config.json in {checkpoint.folder}") from None


def load_trained(folder: Path) -> VJEPA2ForVideoClassification:
    """Loads a classifier as it was saved, labels and head included, in fp32 and for prediction."""
    with quiet_transformers():
        model = VJEPA2ForVideoClassification.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    return model.eval()


def freeze_backbone(model: VJEPA2ForVideoClassification) -> VJEPA2ForVideoClassification:
    """Freezes everything under `model.vjepa2`, and nothing else, as the model card does."""
    model.vjepa2.requires_grad_(False)
    model.vjepa2.eval()
    return model


def count_parameters(model: nn.Module) -> ParameterCounts:
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCounts(sum(count for count, _ in counts), sum(count for count, trains in counts if trains))


def label_names(config: VJEPA2Config) -> list[str]:
    """The classes in the order of the outputs."""
    return [config.id2label[index] for index in sorted(config.id2label)]
