"""A trained classifier as the files that transformers' `from_pretrained` reads, written without transformers."""

import hashlib
import importlib.metadata
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor

from vjepa_mlflow.files.temporary import temporary_folder
from vjepa_mlflow.files.tensors import header
from vjepa_mlflow.model.architecture import BACKBONE, Shape, backbone_shapes, head_shapes
from vjepa_mlflow.model.checkpoint import INDEX_FILE, Checkpoint, choose_weights
from vjepa_mlflow.model.configuration import (
    CONFIG_FILE,
    PROCESSOR_FILE,
    Configuration,
    Preprocessing,
    read_configuration,
    read_preprocessing,
)
from vjepa_mlflow.model.weights import (
    StoredWeights,
    check_finite,
    check_whole,
    format_name,
    open_weights,
    read_weight,
    read_weights,
)

BACKBONE_FILE, HEAD_FILE = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
"""As transformers names the parts of a model that it divides."""

WriteBackbone = Callable[[Path], str]
"""Writes all weights whose names begin with `BACKBONE` into a file, and returns its SHA-256."""


@dataclass(frozen=True)
class Trained:
    """A trained classifier in the parts that it is saved from.

    Attributes:
        configuration: its architecture and its classes.
        preprocessing: what is done to its frames.
        backbone: writes the weights of its encoder and its predictor.
        head: the weights of its pooler and its classifier, by the names that transformers has for them.
        dtype: what its configuration says that the weights are, as PyTorch calls it.
    """

    configuration: Configuration
    preprocessing: Preprocessing
    backbone: WriteBackbone
    head: Mapping[str, Tensor]
    dtype: str = "float32"

    @classmethod
    def of_head(
        cls, checkpoint: Checkpoint, labels: Sequence[str], head: Mapping[str, Tensor], *, backbone: WriteBackbone
    ) -> "Trained":
        """A head that was trained on a checkpoint's features.

        Args:
            checkpoint: the one.
            labels: the classes, in the order of the head's outputs.
            head: see `Trained`.
            backbone: the checkpoint's, such as `CheckpointBackbone`.

        Raises:
            UserError: the checkpoint's configuration or preprocessing says what cannot be.
        """
        configuration = Configuration(checkpoint.configuration.fields, tuple(labels))
        return cls(configuration, checkpoint.preprocessing, backbone, head)

    @classmethod
    def of_whole(cls, checkpoint: Checkpoint) -> "Trained":
        """A classifier that was saved before, as it is.

        Raises:
            UserError: it is not whole.
        """
        configuration = checkpoint.configuration
        stored = open_weights(checkpoint.about, choose_weights(checkpoint.about, checkpoint.folder))
        check_whole(stored, configuration)
        backbone = CheckpointBackbone(checkpoint, configuration.labels)
        head = read_weights(stored, head_shapes(configuration))
        return cls.of_head(checkpoint, configuration.labels, head, backbone=backbone)


@dataclass(frozen=True)
class CheckpointBackbone:
    """Writes a checkpoint's encoder and predictor, in fp32, and nothing else of it: least of all its own head.

    They are those that the head was trained with, or none: it may be hours ago that the checkpoint was found.

    Attributes:
        checkpoint: the one.
        labels: the classes of the head that goes with them.
        seed: of what the checkpoint lacks of a predictor; see `load_classifier`.
    """

    checkpoint: Checkpoint
    labels: Sequence[str]
    seed: int = 0

    def __call__(self, path: Path) -> str:
        """Writes a file, and returns its SHA-256.

        Raises:
            UserError: the checkpoint cannot be read or was changed, lacks weights of the encoder, or some are no
                numbers.
            OSError: the file cannot be written.
        """
        if self.is_complete():
            return self.copy(path, Event())
        from vjepa_mlflow.model.classifier import load_classifier

        drawn = load_classifier(self.checkpoint, list(self.labels), seed=self.seed)
        weights = {name: weight for name, weight in drawn.state_dict().items() if name.startswith(BACKBONE)}
        return write_weights(self.checkpoint.about, path, weights)

    def is_complete(self) -> bool:
        """Whether the checkpoint has all of the backbone, so that nothing is drawn and no model needs to be made."""
        return self._shapes().items() <= self._stored().shapes.items()

    def copy(self, path: Path, stopping: Event) -> str:
        """Does the same where the checkpoint has all of the backbone, tensor by tensor, until it is told to stop.

        Raises:
            CancelledError: it was.
        """
        stored = self._stored()

        def read(name: str) -> Tensor:
            if stopping.is_set():
                raise CancelledError
            return read_weight(stored, name)

        formats = {name: (torch.float32, shape) for name, shape in self._shapes().items()}
        try:
            digest = _write(self.checkpoint.about, path, formats, read)
            self.checkpoint.check_unchanged()
        except BaseException:
            path.unlink(missing_ok=True)  # what has filled a disk would fill it for as long as the training takes
            raise
        return digest

    def _shapes(self) -> dict[str, Shape]:
        return backbone_shapes(self.checkpoint.configuration)

    def _stored(self) -> StoredWeights:
        return open_weights(self.checkpoint.about, choose_weights(self.checkpoint.about, self.checkpoint.folder))


@contextmanager
def written_beside(backbone: CheckpointBackbone) -> Iterator[WriteBackbone]:
    """Has a thread write a checkpoint's backbone while the block does something else, such as training a head.

    Yields:
        What puts the file where it is wanted. Where the thread could not write it, this does, or tells why not.

    Raises:
        UserError: there is no folder for what is temporary.
    """
    if not backbone.is_complete():  # what it lacks is drawn with generators that the block may need
        yield backbone
        return
    stopping = Event()
    with temporary_folder() as folder, ThreadPoolExecutor(1, "backbone") as thread:
        written = folder / BACKBONE_FILE
        digest = thread.submit(backbone.copy, written, stopping)

        def put(path: Path) -> str:
            if digest.exception() is not None:
                return backbone(path)
            _link_or_copy(written, path)
            return digest.result()

        try:
            yield put
        finally:
            stopping.set()


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def write_checkpoint(about: str, trained: Trained, folder: Path) -> dict[str, str]:
    """Writes a folder that `from_pretrained` reads.

    Args:
        about: what messages begin with.
        trained: what to write.
        folder: a new one.

    Returns:
        The SHA-256 of each file of weights by its name.

    Raises:
        UserError: it could not be loaded again: weights are missing, of another shape or no numbers, or a value of the
            configuration or the preprocessing is out of its range.
        OSError: a file cannot be written.
    """
    folder.mkdir()
    _write_json(folder / CONFIG_FILE, _describe_model(trained))
    _write_json(folder / PROCESSOR_FILE, _describe_preprocessing(trained.preprocessing))
    configuration = read_configuration(about, folder)
    read_preprocessing(about, folder)
    digests = {
        HEAD_FILE: write_weights(about, folder / HEAD_FILE, trained.head),
        BACKBONE_FILE: trained.backbone(folder / BACKBONE_FILE),
    }
    stored = open_weights(about, [folder / name for name in sorted(digests)])
    check_whole(stored, configuration)
    tensors = {name: (path, tensor) for path, inside in stored.files.items() for name, tensor in inside.items()}
    size = sum(tensor.end - tensor.begin for _, tensor in tensors.values())
    weight_map = {name: path.name for name, (path, _) in tensors.items()}
    _write_json(folder / INDEX_FILE, {"metadata": {"total_size": size}, "weight_map": weight_map})
    return digests


def write_weights(about: str, path: Path, weights: Mapping[str, Tensor]) -> str:
    """Writes tensors into a safetensors file, and returns its SHA-256.

    Args:
        about: what messages begin with.
        path: the file.
        weights: by name, on any device.

    Raises:
        UserError: some are no numbers.
        OSError: the file cannot be written.
    """
    formats = {name: (weight.dtype, tuple(weight.shape)) for name, weight in weights.items()}
    return _write(about, path, formats, lambda name: weights[name].detach().cpu())


def _write(
    about: str, path: Path, formats: Mapping[str, tuple[torch.dtype, Shape]], read: Callable[[str], Tensor]
) -> str:
    """Writes a file of tensors one by one, so that no more than one of them takes memory; returns its SHA-256."""
    names = sorted(formats, key=lambda name: (-formats[name][0].itemsize, name))  # so that each lies where it may
    layout = {name: _layout(about, name, *formats[name]) for name in names}
    digest = hashlib.sha256()
    with path.open("wb") as file:

        def write(content: bytes | memoryview) -> None:
            digest.update(content)
            file.write(content)

        write(header(layout, {"format": "pt"}))  # without which transformers refuses the file
        for name in names:
            weight = read(name)
            check_finite(about, {name: weight})
            write(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _layout(about: str, name: str, dtype: torch.dtype, shape: Shape) -> tuple[str, Shape, int]:
    return format_name(about, name, dtype), shape, math.prod(shape) * dtype.itemsize


def _describe_model(trained: Trained) -> dict[str, Any]:
    """What transformers' `save_pretrained` says of such a model."""
    labels = trained.configuration.labels
    return {
        **trained.configuration.fields,
        "architectures": ["VJEPA2ForVideoClassification"],
        "dtype": trained.dtype,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "model_type": "vjepa2",
        "transformers_version": importlib.metadata.version("transformers"),
    }


def _describe_preprocessing(preprocessing: Preprocessing) -> dict[str, Any]:
    """What transformers' `save_pretrained` says of such a processor."""
    return {
        **preprocessing.arguments(),
        "return_metadata": False,
        "video_processor_type": "VJEPA2VideoProcessor",
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
