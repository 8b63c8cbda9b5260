"""What `model` names, as a folder in the form that transformers' `from_pretrained` reads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.cached import cache_values, cached_values
from vjepa_mlflow.files.digest import sha256_with_parts
from vjepa_mlflow.files.paths import check_local, expand, is_file, shortened
from vjepa_mlflow.files.reading import read_json
from vjepa_mlflow.model.cached import State, cache_path, have_changed, state_of
from vjepa_mlflow.model.configuration import (
    CONFIG_FILE,
    LARGEST_FILE,
    PROCESSOR_FILE,
    ClipShape,
    Configuration,
    Preprocessing,
    read_configuration,
    read_preprocessing,
)

AUTO = "auto"
TINY = "tiny"
TINY_FOLDER = Path(__file__).with_name("tiny")
"""In the package: a small checkpoint, pretrained on generated films by `tools/pretrain_tiny`."""
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
BASE = "qubvel-hf/vjepa2-vitl-fpc16-256-ssv2"
DIGEST = "sha256:"
"""What a revision begins with that is a digest of the weights."""
EXPECTED = "expected a Hub id, a checkpoint folder, a models:/ or runs:/ URI, tiny or auto"


@dataclass(frozen=True)
class Checkpoint:
    """A V-JEPA 2 checkpoint on this machine.

    Attributes:
        name: what the user calls it.
        folder: holds `config.json`, safetensors weights and the video processor's configuration.
        revision: the Hub's commit, or `sha256:` and the digest of the weights.
        whole: whether it is a trained model's: used as it is or refused. Of any other one the encoder is.
        weights_sha256: the digests of the files of weights when they were saved, by the files' names; None where that
            was not noted.
        cache_dir: the folder for what is found of its files, so that they need not be read again; None for none.
        state: of its files when it was found, see `state_of_folder`: whatever is read of them later must be of this.
            None where that is not known.
    """

    name: str
    folder: Path
    revision: str
    whole: bool = False
    weights_sha256: Mapping[str, str] | None = None
    cache_dir: Path | None = None
    state: State | None = None

    @property
    def about(self) -> str:
        """What messages about it begin with."""
        return f"model={self.name}"

    def check_unchanged(self) -> None:
        """Refuses files that are no longer those that were found, once they were read.

        Where only their places are others, as when a link more leads to one, the digest of the weights tells.

        Raises:
            UserError: they were changed, or replaced.
        """
        now = state_of_folder(self.about, self.folder)
        if self.state in (now, None):
            return
        if have_changed(self.state, now) or self._has_other_weights():
            raise UserError(f"{self.about}: its files were changed meanwhile: expected them to stay as they are")

    def _has_other_weights(self) -> bool:
        if not self.revision.startswith(DIGEST):
            return False
        digest, _ = _cached_digests(_find_weights(self.about, self.folder), None)
        return self.revision != DIGEST + digest

    @cached_property
    def configuration(self) -> Configuration:
        """Its architecture and its classes.

        Raises:
            UserError: its folder does not say, or says what cannot be.
        """
        return read_configuration(self.about, self.folder)

    @property
    def frames_per_clip(self) -> int:
        return self.configuration.frames_per_clip

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """What is done to its frames.

        Raises:
            UserError: its folder does not say, or says what cannot be.
        """
        return read_preprocessing(self.about, self.folder)


BASE_SHAPE = ClipShape(num_frames=16, tokens=2048, hidden_size=1024)
"""Of `BASE`."""


def clip_shape(model: str) -> ClipShape | None:
    """What a model makes of a clip, where its name or a configuration on this machine tells; None otherwise."""
    if model == BASE:
        return BASE_SHAPE
    folder = TINY_FOLDER if model == TINY else expand("model", model)
    if not is_file(folder / CONFIG_FILE):
        return None
    return ClipShape.of(read_configuration(f"model={model}", folder).architecture)


def keeps_classifier(checkpoint: Checkpoint, labels: Sequence[str]) -> bool:
    """Whether a checkpoint is a classifier of just these classes: then it was trained on such videos somewhere."""
    return sorted(checkpoint.configuration.labels) == sorted(labels)


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
    if model == TINY and not TINY_FOLDER.is_dir():
        raise UserError(
            "model=tiny: the copy of this package in a model lacks it: expected vjepa-mlflow to be installed"
        )
    folder = expand("model", model)
    if folder.is_dir() and model != TINY:
        choose_weights(f"model={model}", folder)
    elif model.startswith((".", "/", "~")) or "\\" in model:
        raise UserError(f"model={model}: no such folder: {EXPECTED}")


def locate(model: str, *, cache_dir: Path | None = None) -> Checkpoint:
    """Finds a checkpoint by its Hub id or folder, downloading what is not here yet.

    Args:
        model: its name.
        cache_dir: see `Checkpoint`.

    Raises:
        UserError: there is no such checkpoint, it cannot be downloaded, or it is not a V-JEPA 2.
    """
    check_name(model)
    if model == TINY:
        return from_folder(TINY, TINY_FOLDER, cache_dir=cache_dir)
    folder = expand("model", model)
    if folder.is_dir():
        return from_folder(model, folder, cache_dir=cache_dir)
    snapshot = _download(model)
    state = state_of_folder(f"model={model}", snapshot)
    return Checkpoint(model, snapshot, revision=snapshot.name, cache_dir=cache_dir, state=state)


def from_folder(
    name: str,
    folder: Path,
    *,
    whole: bool = False,
    weights_sha256: Mapping[str, str] | None = None,
    cache_dir: Path | None = None,
) -> Checkpoint:
    """A checkpoint from a local folder.

    Args:
        name: what the user calls it.
        folder: that holds it.
        whole: see `Checkpoint`.
        weights_sha256: see `Checkpoint`.
        cache_dir: see `Checkpoint`.

    Raises:
        UserError: the folder holds no V-JEPA 2 weights, or not those that were saved.
    """
    about = f"model={name}"
    state = state_of_folder(about, folder)
    digest, digests = _cached_digests(_find_weights(about, folder), cache_dir)
    check_digests(about, digests, weights_sha256)
    return Checkpoint(name, folder, DIGEST + digest, whole, weights_sha256, cache_dir, state)


def state_of_folder(about: str, folder: Path) -> State:
    """What changes with the files that a checkpoint is read from, as far as can be told without reading them.

    Args:
        about: what messages begin with.
        folder: that holds it.

    Raises:
        UserError: it holds no V-JEPA 2 weights.
    """
    resolved = folder.resolve()
    files = [*choose_weights(about, resolved), resolved / CONFIG_FILE, resolved / PROCESSOR_FILE]
    return state_of([*files, resolved / INDEX_FILE])


class _Digests(NamedTuple):
    """SHA-256 of files' contents one after the other, and of each by itself, in their order."""

    whole: str
    parts: str


def _cached_digests(files: Sequence[Path], cache_dir: Path | None) -> tuple[str, dict[str, str]]:
    """What `sha256_with_parts` says of files, which are read once while nothing of them changes."""
    entry = cache_path(cache_dir, "sha256", state_of(files))
    digests = cached_values(entry, _Digests)
    if digests is None:
        whole, parts = sha256_with_parts(files)
        digests = _Digests(whole, " ".join(parts.values()))
        cache_values(entry, digests._asdict(), within=cache_dir)
    return digests.whole, dict(zip((path.name for path in files), digests.parts.split(), strict=True))


def check_digests(about: str, digests: Mapping[str, str], saved: Mapping[str, str] | None) -> None:
    """Refuses files of weights that are not just those that were saved, if it was written down which those are."""
    if saved is not None and digests != saved:
        raise UserError(f"{about}: its weights were changed after they were saved: expected the files that were saved")


def choose_weights(about: str, folder: Path) -> list[Path]:
    """The files of a folder whose weights are used: the one, or those that an index names, or all.

    Args:
        about: what messages begin with.
        folder: of the checkpoint.

    Raises:
        UserError: there are none of a V-JEPA 2, or one is missing.
    """
    read_configuration(about, folder)
    files = _find_weights(about, folder)
    if folder / WEIGHTS_FILE in files:
        return [folder / WEIGHTS_FILE]
    named = _named_in_index(about, folder / INDEX_FILE)
    if missing := [name for name in named if folder / name not in files]:
        raise UserError(f"{about}: {missing[0]}, which {INDEX_FILE} names, is not there: expected all of its files")
    return [folder / name for name in named] or files


def _find_weights(about: str, folder: Path) -> list[Path]:
    """All files of weights in a folder."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"{about}: no .safetensors weights in {folder}: expected a from_pretrained folder")
    for path in weights:
        if not is_file(path):
            raise UserError(f"{about}: {shortened(path.name)} is not a file: expected safetensors weights")
    return weights


def _named_in_index(about: str, index: Path) -> list[str]:
    """The names of the files that hold the weights; empty where there is no index."""
    try:
        names = sorted(set(read_json(index, at_most=LARGEST_FILE)["weight_map"].values()))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{about}: {index.name} cannot be read ({one_line(error)}): expected an index") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{about}: {index.name} names {shortened(repr(name))}: expected files in its folder")
    return names


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
