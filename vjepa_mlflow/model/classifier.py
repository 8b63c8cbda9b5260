"""A frozen backbone and a head for new classes."""

import json
import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import shortened
from vjepa_mlflow.internals.transformers_private import activations
from vjepa_mlflow.model.checkpoint import Checkpoint, check_digests, choose_weights
from vjepa_mlflow.model.configuration import (
    CONFIG_FILE,
    PROCESSOR_FILE,
    Configuration,
    Preprocessing,
    check_preprocessing,
    read_configuration,
)
from vjepa_mlflow.model.head import draw_classifier, without_foreign_classifier
from vjepa_mlflow.model.quiet import quiet_transformers
from vjepa_mlflow.model.weights import (
    StoredWeights,
    check_finite,
    check_whole,
    digest_weights,
    open_weights,
    read_weights,
)

ACTIVATIONS = activations()
"""That transformers knows, but for the one that looks for another package."""

MOST_DRAWN = 1 << 29
"""Weights that are drawn anew at most: three times those of the largest V-JEPA 2's pooler and predictor."""

VECTOR = 64
"""Bytes that a CPU works on at once, at most."""

_ENCODER, _PREDICTOR, _POOLER, _CLASSIFIER = "vjepa2.encoder.", "vjepa2.predictor.", "pooler.", "classifier."


class _Fit(NamedTuple):
    """A checkpoint beside the classifier that is made of it.

    Attributes:
        config: of the classifier.
        stored: the checkpoint's weights.
        kept: the names of those that the classifier takes.
        drawn: the names of those that it draws.
    """

    config: VJEPA2Config
    stored: StoredWeights
    kept: frozenset[str]
    drawn: frozenset[str]


def load_classifier(checkpoint: Checkpoint, labels: list[str], *, seed: int) -> VJEPA2ForVideoClassification:
    """Loads a checkpoint for new classes, in fp32, its backbone frozen.

    The classifier keeps its weights only where the checkpoint has exactly these labels; otherwise it is drawn anew.
    So is a pooler that the checkpoint lacks; `drawn_anew` says what is.

    Args:
        checkpoint: where the weights are.
        labels: the classes, in the order of the outputs; at least two, since transformers takes one for a regression.
        seed: of new weights; the caller's random state is left alone.

    Raises:
        UserError: the folder lacks weights of the backbone, they do not fit its configuration, or are no numbers; a
            trained model's lacks or has any others; or its files were changed since it was found.
    """
    fit = _fit(checkpoint, labels)
    weights = _read_kept(checkpoint, fit)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of a pooler that the checkpoint may lack
        model = VJEPA2ForVideoClassification.from_pretrained(
            None, config=fit.config, state_dict=weights, dtype=torch.float32
        )
    model.config.name_or_path = str(checkpoint.folder)
    if any(name.startswith(_CLASSIFIER) for name in fit.drawn):
        drawn = draw_classifier(model.classifier, std=model.config.initializer_range, seed=seed)
        model.load_state_dict(drawn, strict=False)
    checkpoint.check_unchanged()
    return freeze_backbone(model)


def load_processor(checkpoint: Checkpoint) -> VJEPA2VideoProcessor:
    """Loads the checkpoint's own preprocessing as transformers has it.

    Raises:
        UserError: the folder has none, or it says what cannot be.
    """
    return make_processor(checkpoint.preprocessing)


def make_processor(preprocessing: Preprocessing) -> VJEPA2VideoProcessor:
    """Makes what transformers preprocesses with."""
    return VJEPA2VideoProcessor(**preprocessing.arguments())


def preprocessing_of(about: str, processor: VJEPA2VideoProcessor) -> Preprocessing:
    """What transformers' processor does to frames.

    Args:
        about: what messages begin with.
        processor: the one.

    Raises:
        UserError: it does what a checkpoint's folder could not describe.
    """
    values = json.loads(processor.to_json_string())
    preprocessing = check_preprocessing(about, values)
    size = preprocessing.arguments()["size"]
    if values.get("size") != size:
        raise UserError(f"{about}: {PROCESSOR_FILE}: size={values.get('size')}: expected {size}, as crop_size has it")
    return preprocessing


def load_trained(
    folder: Path, about: str | None = None, *, weights_sha256: Mapping[str, str] | None = None
) -> VJEPA2ForVideoClassification:
    """Loads a classifier as it was saved, labels and head included, in fp32 and for prediction.

    Args:
        folder: of its checkpoint.
        about: what messages begin with; None for the folder.
        weights_sha256: see `Checkpoint`.

    Raises:
        UserError: its weights are not exactly those of its configuration, were changed, or are no numbers.
    """
    about = about or str(folder)
    configuration = read_configuration(about, folder)
    stored = open_weights(about, choose_weights(about, folder))
    check_whole(stored, configuration)
    model = _make_blank(about, configuration, configuration.labels)
    model.load_state_dict(_read_whole(stored, weights_sha256), assign=True)
    model.config.dtype = torch.float32
    model.config.name_or_path = str(folder)
    return model.eval()


def _fit(checkpoint: Checkpoint, labels: list[str]) -> _Fit:
    """Compares a checkpoint with a classifier for new labels, by names and shapes."""
    about = checkpoint.about
    configuration = checkpoint.configuration
    stored = open_weights(about, choose_weights(about, checkpoint.folder))
    if checkpoint.whole:
        check_whole(stored, configuration)
    model = _make_blank(about, configuration, labels)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    fitting = {name for name, shape in stored.shapes.items() if expected.get(name) == shape}
    _check_encoder(stored, configuration, expected.keys(), fitting)
    _check_layers(stored, configuration)
    kept = without_foreign_classifier(fitting, labels, configuration.labels)
    drawn = expected.keys() - kept
    if (size := sum(math.prod(expected[name]) for name in drawn)) > MOST_DRAWN:
        raise UserError(f"{about}: {size:,} weights would be drawn anew: expected at most {MOST_DRAWN:,}")
    return _Fit(model.config, stored, kept, frozenset(drawn))


def _check_encoder(stored: StoredWeights, configuration: Configuration, expected: Set[str], fitting: Set[str]) -> None:
    """Refuses an encoder that is not exactly that of its configuration."""
    if lacking := sorted(name for name in expected - fitting if name.startswith(_ENCODER)):
        raise UserError(
            f"{stored.about}: weights missing or of another shape, such as {lacking[0]}: expected a whole encoder"
        )
    if foreign := sorted(name for name in stored.shapes.keys() - expected if name.startswith(_ENCODER)):
        raise UserError(
            f"{stored.about}: weights that its {CONFIG_FILE} has no place for, such as {shortened(foreign[0])}: "
            f"expected an encoder of num_hidden_layers={configuration.fields['num_hidden_layers']}"
        )


def _check_layers(stored: StoredWeights, configuration: Configuration) -> None:
    """Refuses a pooler or a predictor with other layers than its configuration has; there may be none at all."""
    for field, part, layers in (
        ("num_pooler_layers", _POOLER, "self_attention_layers."),
        ("pred_num_hidden_layers", _PREDICTOR, "layer."),
    ):
        inside = [name.removeprefix(part) for name in stored.shapes if name.startswith(part)]
        numbers = {name.removeprefix(layers).partition(".")[0] for name in inside if name.startswith(layers)}
        announced = configuration.fields[field]
        if inside and len(numbers) != announced:
            raise UserError(
                f"{stored.about}: {CONFIG_FILE}: {field}={announced}: expected {len(numbers)}, as many as its weights "
                f"have"
            )


def _make_blank(about: str, configuration: Configuration, labels: Sequence[str]) -> VJEPA2ForVideoClassification:
    """A classifier without weights, which takes no memory."""
    check_activation(about, configuration)
    config = VJEPA2Config(
        **configuration.fields,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    with torch.device("meta"), quiet_transformers():
        return VJEPA2ForVideoClassification(config)


def check_activation(about: str, configuration: Configuration) -> None:
    activation = configuration.fields["hidden_act"]
    if activation not in ACTIVATIONS:
        raise UserError(
            f"{about}: {CONFIG_FILE}: hidden_act={shortened(activation)}: expected one of {', '.join(ACTIVATIONS)}"
        )


def _read_whole(stored: StoredWeights, weights_sha256: Mapping[str, str] | None) -> dict[str, Tensor]:
    """All weights of a trained model, as they were saved by their digests, where those were written down."""
    weights = read_weights(stored, stored.shapes)
    if weights_sha256 is not None:
        check_digests(stored.about, digest_weights(stored), weights_sha256)
    check_finite(stored.about, weights)
    return weights


def _read_kept(checkpoint: Checkpoint, fit: _Fit) -> dict[str, Tensor]:
    """The weights that a new classifier takes from a checkpoint."""
    if checkpoint.whole:
        weights = _read_whole(fit.stored, checkpoint.weights_sha256)
        return {name: weights[name] for name in fit.kept}
    weights = read_weights(fit.stored, fit.kept)
    used = {name: weight for name, weight in weights.items() if not name.startswith(_PREDICTOR)}
    check_finite(checkpoint.about, used)
    return weights


def copy_to(model: VJEPA2ForVideoClassification, device: torch.device) -> VJEPA2ForVideoClassification:
    """A classifier with the same weights on a device; itself, where it is there."""
    if model.device == device:
        return model
    return _with_weights(model.config, {name: tensor.to(device) for name, tensor in model.state_dict().items()})


def to_arrays(model: VJEPA2ForVideoClassification) -> tuple[VJEPA2Config, dict[str, tuple[np.ndarray, int]]]:
    """A classifier on the CPU as what any pickler takes by value; of tensors, some hand over a file descriptor.

    Returns:
        Its configuration; and its weights by name, each with the place in a vector at which it begins in memory, on
        which the last bits of what is computed depend.
    """
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return model.config, {name: (tensor.numpy(), tensor.data_ptr() % VECTOR) for name, tensor in weights.items()}


def from_arrays(config: VJEPA2Config, weights: Mapping[str, tuple[np.ndarray, int]]) -> VJEPA2ForVideoClassification:
    """The classifier that `to_arrays` was given, with memory of its own."""
    return _with_weights(config, {name: torch.from_numpy(_placed(*weight)) for name, weight in weights.items()})


def _placed(array: np.ndarray, place: int) -> np.ndarray:
    memory = np.empty(array.nbytes + VECTOR, np.uint8)
    begin = (place - memory.ctypes.data) % VECTOR
    placed = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def _with_weights(config: VJEPA2Config, weights: Mapping[str, Tensor]) -> VJEPA2ForVideoClassification:
    with torch.device("meta"), quiet_transformers():
        model = VJEPA2ForVideoClassification(config)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def freeze_backbone(model: VJEPA2ForVideoClassification) -> VJEPA2ForVideoClassification:
    """Freezes everything under `model.vjepa2`, and nothing else, as the model card does."""
    model.vjepa2.requires_grad_(False)
    model.vjepa2.eval()
    return model


def label_names(config: VJEPA2Config) -> list[str]:
    """The classes in the order of the outputs."""
    return [config.id2label[index] for index in sorted(config.id2label)]
