"""A checkpoint as a head to train and a frozen backbone, which is loaded only where something is to be encoded.

What a checkpoint's files hold is looked at once, as a whole, and cached by what the files are. Where all features are
there, the head's weights are all that is read of it again, and transformers is not imported.
"""

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vjepa_mlflow.files.cached import cache_values, cached_values
from vjepa_mlflow.model.cached import cache_path
from vjepa_mlflow.model.checkpoint import Checkpoint, choose_weights
from vjepa_mlflow.model.configuration import Preprocessing
from vjepa_mlflow.model.forward import EAGER, TRANSFORMERS, Backbone, agrees, encoder_forms
from vjepa_mlflow.model.head import (
    CLASSIFIER,
    Architecture,
    Head,
    count_parameters,
    draw_classifier,
    without_foreign_classifier,
)
from vjepa_mlflow.model.weights import StoredWeights, check_finite, open_weights, read_weights

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification


class KnownBackbone(NamedTuple):
    """What is cached of a checkpoint that was loaded and found to be whole.

    Attributes:
        backbone: see `backbone_digest`.
        processor: see `preprocessing_digest`.
        parameters: of the backbone.
    """

    backbone: str
    processor: str
    parameters: int


class _Agreement(NamedTuple):
    """Whether the lean encoder computes what transformers' does: `yes` or `no`."""

    answer: str


class FrozenBackbone:
    """The frozen encoder of a model, known by its digests before it is loaded.

    Attributes:
        architecture: of the model.
        device: where it computes.
        cache_dir: the folder for what is found of it; None for none.
        known: what it is.
        model: the model, on its device.
        preprocessing: what is done to its frames.
    """

    architecture: Architecture
    device: torch.device
    cache_dir: Path | None
    model: "VJEPA2ForVideoClassification"
    preprocessing: Preprocessing

    @cached_property
    def known(self) -> KnownBackbone:
        from vjepa_mlflow.model.identity import backbone_digest, preprocessing_digest

        parameters = count_parameters(self.model.vjepa2).total
        return KnownBackbone(backbone_digest(self.model), preprocessing_digest(self.preprocessing), parameters)

    def load(self, *, precision: str, form: str) -> Backbone:
        """Loads the encoder.

        Args:
            precision: the recipe's.
            form: one of its `forms`.
        """
        return Backbone.of(self.model, precision=precision, form=form)

    def forms(self, precision: str) -> list[str]:
        """The forms in which it may encode here, the one that is fastest in the long run first: see `encoder_forms`."""
        forms = encoder_forms(self.architecture, self.device, precision)
        return [TRANSFORMERS] if EAGER in forms and not self._agrees(precision) else forms

    def _agrees(self, precision: str) -> bool:
        """Whether the lean encoder's features are transformers' here, looked at once for a GPU and these versions."""
        versions = torch.__version__, version("transformers")
        gpu = torch.cuda.get_device_name(self.device)
        entry = cache_path(self.cache_dir, "agreement", self.known.backbone, precision, gpu, *versions)
        agreement = cached_values(entry, _Agreement)
        if agreement is None or agreement.answer != "yes":  # a disagreement is told each time
            agreement = _Agreement("yes" if agrees(self.model, precision) else "no")
            cache_values(entry, agreement._asdict(), within=self.cache_dir)
        return agreement.answer == "yes"


class LoadedBackbone(FrozenBackbone):
    """That of a model on its device.

    Args:
        model: the one.
        preprocessing: what is done to its frames.
        cache_dir: see `FrozenBackbone`.
    """

    def __init__(
        self, model: "VJEPA2ForVideoClassification", preprocessing: Preprocessing, *, cache_dir: Path | None = None
    ):
        self.model, self.preprocessing, self.cache_dir = model, preprocessing, cache_dir
        self.architecture, self.device = model.config, model.device


class StoredBackbone(FrozenBackbone):
    """That of a checkpoint which is known to be whole.

    Args:
        checkpoint: the one.
        labels: the classes of the model, where it is loaded as one.
        seed: likewise, of what is drawn of it.
        device: where it computes.
        known: what it is.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        labels: list[str],
        *,
        seed: int,
        device: torch.device,
        known: KnownBackbone,
    ):
        self.architecture = checkpoint.configuration.architecture
        self.preprocessing = checkpoint.preprocessing
        self.device = device
        self.cache_dir = checkpoint.cache_dir
        self.known = known
        self._checkpoint, self._labels, self._seed = checkpoint, labels, seed

    def load(self, *, precision: str, form: str) -> Backbone:
        if form == TRANSFORMERS:
            return super().load(precision=precision, form=form)
        return Backbone.of_weights(self._read_encoder(), self.architecture, precision=precision, form=form)

    def _read_encoder(self) -> dict[str, Tensor]:
        about, folder = self._checkpoint.about, self._checkpoint.folder
        stored = open_weights(about, choose_weights(about, folder))
        names = [name for name in stored.shapes if name.startswith("vjepa2.encoder.")]
        weights = {name: weight.to(self.device) for name, weight in read_weights(stored, names).items()}
        self._checkpoint.check_unchanged()
        return weights

    @cached_property
    def model(self) -> "VJEPA2ForVideoClassification":
        from vjepa_mlflow.model.classifier import load_classifier

        return load_classifier(self._checkpoint, self._labels, seed=self._seed).to(self.device)


class OpenedCheckpoint(NamedTuple):
    """What training takes of a checkpoint.

    Attributes:
        head: for the classes, on its device.
        backbone: frozen.
    """

    head: Head
    backbone: FrozenBackbone


def open_checkpoint(checkpoint: Checkpoint, labels: list[str], *, seed: int, device: torch.device) -> OpenedCheckpoint:
    """Opens a checkpoint for new classes. All weights are those that `load_classifier` gives.

    Raises:
        UserError: see `load_classifier`.
    """
    # Of a trained model all must be as it was saved, of any other one the encoder alone: what is cached differs.
    about = "whole", version("transformers"), checkpoint.whole, checkpoint.weights_sha256, checkpoint.state
    entry = cache_path(checkpoint.cache_dir, *about)
    known = cached_values(entry, KnownBackbone)
    head = None if known is None else _read_head(checkpoint, labels, seed)
    if known is not None and head is not None:
        checkpoint.check_unchanged()
        stored = StoredBackbone(checkpoint, labels, seed=seed, device=device, known=known)
        return OpenedCheckpoint(head.to(device), stored)
    from vjepa_mlflow.model.classifier import load_classifier

    model = load_classifier(checkpoint, labels, seed=seed).to(device)
    loaded = LoadedBackbone(model, checkpoint.preprocessing, cache_dir=checkpoint.cache_dir)
    cache_values(entry, loaded.known._asdict(), within=checkpoint.cache_dir)
    return OpenedCheckpoint(Head.of(model), loaded)


def drawn_anew(checkpoint: Checkpoint, labels: Sequence[str]) -> list[str]:
    """The parts of the head for new classes that are drawn, or completed with what is drawn.

    Raises:
        UserError: the checkpoint's files cannot be read.
    """
    parts = _parts_of_head(checkpoint, labels)
    drawn_parts = []
    for part in ("pooler", "classifier"):
        if any(name.startswith(part) for name in parts.drawn):
            partly = any(name.startswith(part) for name in parts.kept)
            drawn_parts.append(f"{'parts of the ' if partly else ''}{part}")
    return drawn_parts


class _PartsOfHead(NamedTuple):
    """A head without weights, and which of them a checkpoint has.

    Attributes:
        head: on the meta device.
        stored: the checkpoint's weights.
        kept: the names of those that the head takes.
        drawn: the names of those that are drawn.
    """

    head: Head
    stored: StoredWeights
    kept: frozenset[str]
    drawn: frozenset[str]


def _parts_of_head(checkpoint: Checkpoint, labels: Sequence[str]) -> _PartsOfHead:
    configuration = checkpoint.configuration
    stored = open_weights(checkpoint.about, choose_weights(checkpoint.about, checkpoint.folder))
    with torch.device("meta"):
        head = Head(configuration.architecture, len(labels))
    shapes = {name: tuple(weight.shape) for name, weight in head.state_dict().items()}
    fitting = {name for name, shape in shapes.items() if stored.shapes.get(name) == shape}
    kept = without_foreign_classifier(fitting, labels, configuration.labels)
    return _PartsOfHead(head, stored, kept, frozenset(shapes.keys() - kept))


def _read_head(checkpoint: Checkpoint, labels: Sequence[str], seed: int) -> Head | None:
    """The head of a checkpoint that is known to be whole; None where transformers is to draw more than a classifier."""
    head, stored, kept, drawn = _parts_of_head(checkpoint, labels)
    if drawn - CLASSIFIER:
        return None
    weights = read_weights(stored, kept)
    check_finite(checkpoint.about, weights)
    if drawn:
        weights |= draw_classifier(head.classifier, std=head.architecture.initializer_range, seed=seed)
    # Copies: values of a file lie in memory as they lie there, and the last bits of what is computed depend on that.
    head.load_state_dict({name: weight.clone() for name, weight in weights.items()}, assign=True)
    return head
