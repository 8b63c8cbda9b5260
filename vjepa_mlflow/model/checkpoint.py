"""What `model` names, as a folder that `from_pretrained` reads."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vjepa_mlflow.digest import sha256
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.paths import check_local, expand

AUTO = "auto"
TINY = "tiny"
TINY_FOLDER = Path(__file__).with_name("tiny")
"""In the package: a small checkpoint, pretrained on generated films by `tools/pretrain_tiny`."""
BASE = "qubvel-hf/vjepa2-vitl-fpc16-256-ssv2"
EXPECTED = "expected a Hub id, a checkpoint folder, a models:/ or runs:/ URI, tiny or auto"


@dataclass(frozen=True)
class Checkpoint:
    """A V-JEPA 2 checkpoint on this machine.

    Attributes:
        name: what the user calls it.
        folder: holds `config.json`, safetensors weights and the video processor's configuration.
        revision: the Hub's commit, or `sha256:` and the digest of the weights.
    """

    name: str
    folder: Path
    revision: str

    @property
    def frames_per_clip(self) -> int:
        return int(json.loads((self.folder / "config.json").read_text())["frames_per_clip"])


class ClipShape(NamedTuple):
    """What a model makes of a clip: features of shape (tokens, hidden size), out of so many frames."""

    num_frames: int
    tokens: int
    hidden_size: int


BASE_SHAPE = ClipShape(num_frames=16, tokens=2048, hidden_size=1024)
"""Of `BASE`."""


def clip_shape(model: str) -> ClipShape | None:
    """What a model makes of a clip, where its name or a configuration on this machine tells; None otherwise."""
    if model == BASE:
        return BASE_SHAPE
    folder = TINY_FOLDER if model == TINY else expand("model", model)
    if not (folder / "config.json").is_file():
        return None
    check_config(model, folder)
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not {"crop_size", "patch_size", "frames_per_clip", "tubelet_size", "hidden_size"} <= set(values):
        return None
    side, frames = values["crop_size"] // values["patch_size"], values["frames_per_clip"]
    return ClipShape(frames, frames // values["tubelet_size"] * side**2, values["hidden_size"])


def keeps_classifier(checkpoint: Checkpoint, labels: Sequence[str]) -> bool:
    """Whether a checkpoint is a classifier of just these classes: then it was trained on such videos somewhere."""
    known = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8")).get("id2label")
    return isinstance(known, dict) and sorted(map(str, known.values())) == sorted(labels)


def choose(model: str, *, demo: bool) -> str:
    """What `auto` stands for; any other name stands for itself."""
    if model != AUTO:
        return model
    return TINY if demo else BASE


def check_name(model: str) -> None:
    """Refuses what cannot be a name, and a folder that is not there or holds no V-JEPA 2, before anything needs it.

    Raises:
        UserError: says what is wrong with it.
    """
    if not model.strip():
        raise UserError(f"model={model}: no name: {EXPECTED}")
    if re.fullmatch(r"models:/+(?!m-)[^/@]+/*", model):
        raise UserError(f"model={model}: of no version: expected models:/NAME/VERSION or models:/NAME@ALIAS")
    if not model.startswith(("models:/", "runs:/")):
        check_local("model", model)
    folder = expand("model", model)
    if folder.is_dir() and model != TINY:
        find_weights(model, folder)
    elif model.startswith((".", "/", "~")) or "\\" in model:
        raise UserError(f"model={model}: no such folder: {EXPECTED}")


def locate(model: str) -> Checkpoint:
    """Finds a checkpoint by its Hub id or folder, downloading what is not here yet.

    Raises:
        UserError: there is no such checkpoint, it cannot be downloaded, or it is not a V-JEPA 2.
    """
    check_name(model)
    if model == TINY:
        return from_folder(TINY, TINY_FOLDER)
    folder = expand("model", model)
    if folder.is_dir():
        return from_folder(model, folder)
    snapshot = _download(model)
    check_config(model, snapshot)
    return Checkpoint(model, snapshot, revision=snapshot.name)


def from_folder(name: str, folder: Path) -> Checkpoint:
    """A checkpoint from a local folder.

    Raises:
        UserError: the folder holds no V-JEPA 2 weights.
    """
    return Checkpoint(name, folder, revision=f"sha256:{sha256(find_weights(name, folder))}")


def find_weights(name: str, folder: Path) -> list[Path]:
    """The files of a local folder that hold the weights.

    Raises:
        UserError: there are none of a V-JEPA 2.
    """
    check_config(name, folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"model={name}: no .safetensors weights in {folder}: expected a from_pretrained folder")
    return weights


def check_config(name: str, folder: Path) -> None:
    """Refuses a folder whose configuration is not that of a V-JEPA 2."""
    try:
        model_type = json.loads((folder / "config.json").read_text()).get("model_type")
    except FileNotFoundError:
        raise UserError(f"model={name}: no config.json in {folder}: expected a from_pretrained folder") from None
    except (ValueError, AttributeError):
        raise UserError(f"model={name}: config.json in {folder} is not a model configuration") from None
    if model_type != "vjepa2":
        raise UserError(f"model={name}: model type '{model_type}': expected a V-JEPA 2 checkpoint ('vjepa2')")


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors"]))
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError):
        raise UserError(f"model={model}: not found on the Hub, or not open to you: {EXPECTED}") from None
    except LocalEntryNotFoundError:
        raise UserError(f"model={model}: not on this machine, and the Hub cannot be reached: {EXPECTED}") from None
    except (HfHubHTTPError, OSError) as error:
        raise UserError(f"model={model}: download failed: {one_line(error)}") from error
