"""Features on disk: a folder that processes and machines may share, and that may be deleted at any time."""

import hashlib
import json
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from vjepa_mlflow.errors import DENIED, UserError, expected
from vjepa_mlflow.features.contents import DESCRIPTION, entry_path, free_space, store_folder
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.features.transfer import to_host, when_computed
from vjepa_mlflow.files.cache import write_atomically
from vjepa_mlflow.files.reading import open_regular, read_bounded
from vjepa_mlflow.files.temporary import DAY, sweep
from vjepa_mlflow.files.tensors import header, read_metadata
from vjepa_mlflow.logs import get_logger

logger = get_logger(__name__)

IDENTITY = "name_and_sha256"

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}
"""safetensors' names of them."""

LARGEST = 4 << 30
"""Bytes of a file that is read: ten times a ViT-g's largest clip."""

WRITERS = 4
"""Threads. More of them would take processor time from the reading of videos, which the encoder waits for."""

WAITING_WRITES = 64
"""Features that wait to be written before the encoder has to wait for the disk."""


ELSEWHERE = "VJEPA_MLFLOW_CACHE names another folder, cache=memory does without"


class FeatureStore:
    """The features of one space, one safetensors file for each clip's, named by what they depend on.

    A file appears complete or not at all. It holds its own name and the digest of its values, and is deleted and taken
    for missing when it does not agree with them. As a context manager it ends with its threads, which write.

    Attributes:
        folder: of the space.
        denial: why nothing may be written there; None as long as that is not known.
    """

    def __init__(self, space: FeatureSpace):
        self.denial: OSError | None = None
        self.folder = store_folder() / space.name
        self._description = json.dumps(asdict(space), indent=2).encode()
        self._pool = ThreadPoolExecutor(WRITERS)
        self._writes: dict[str, Future[None]] = {}  # in the order in which they were asked for
        self._blocked: set[str] = set()  # names whose place is taken by a folder
        sweep(self.folder)
        self._describe_again()

    def __contains__(self, name: str) -> bool:
        if name in self._writes:
            return True
        try:
            self._path(name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._unreadable(error) from error
        return name not in self._blocked

    def read(self, name: str) -> Tensor | None:
        """Features of shape (tokens, hidden size) on the CPU, or None where there are none that can be trusted.

        Raises:
            UserError: they are there, and may not be read.
        """
        if (writing := self._writes.get(name)) is not None:
            wait([writing])
        path = self._path(name)
        try:
            features = _read_verified(path, name)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise self._unreadable(error) from error
        with suppress(OSError):
            if features is None and path.is_dir():
                self._blocked.add(name)
                logger.warning(
                    f"{path}: is a folder where features were kept: their clip is encoded again, and not kept"
                )
            elif features is None:
                logger.warning(f"{path}: was changed after it was written: it is deleted, and its clip encoded again")
                path.unlink(missing_ok=True)
            elif time.time() - path.stat().st_mtime > DAY:
                path.touch()  # pruning by age goes by the last use
        return features

    def write(self, name: str, features: Tensor) -> None:
        """Writes features in the background; waits for others where too many are on their way.

        Where this user may not write, features are not kept; `denial` says why.

        Raises:
            UserError: earlier features could not be written: the disk is full.
        """
        self._wait_for_writes(left=WAITING_WRITES - 1)
        self._writes[name] = self._pool.submit(self._write, name, features, when_computed(features.device))

    def finish(self) -> None:
        """Waits until everything is written. Raises what `write` raises."""
        self._wait_for_writes(left=0)

    def close(self) -> None:
        """Ends the threads that write, once what they have is written; where it cannot be, `finish` tells before."""
        self._pool.shutdown()

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_for_writes(self, *, left: int) -> None:
        for name, write in list(self._writes.items()):
            if len(self._writes) > left or write.done():
                del self._writes[name]
                write.result()

    def _describe_again(self) -> None:
        """Writes what the folder holds where that is damaged or missing; nothing but what is shown depends on it."""
        description = self.folder / DESCRIPTION
        with suppress(OSError):
            if not self.folder.is_dir():
                return
            with suppress(ValueError, FileNotFoundError):
                if read_bounded(description, at_most=len(self._description)) == self._description:
                    return
            write_atomically(description, self._description)

    def _write(self, name: str, features: Tensor, computed: torch.cuda.Event | None) -> None:
        try:
            if not self.folder.is_dir():
                write_atomically(self.folder / DESCRIPTION, self._description)
            if name not in self._blocked:
                content = _content(name, to_host(features, computed))
                write_atomically(self._path(name), *content, within=self.folder)
        except OSError as error:
            if error.errno in DENIED:
                self.denial = error
                return
            raise UserError(
                f"feature store {self.folder}: cannot be written ({error.strerror}, "
                f"{free_space(self.folder) / 2**30:.1f} GiB free): expected {expected(error)}; `vjepa-mlflow features` "
                f"prunes it, {ELSEWHERE}"
            ) from error

    def _unreadable(self, error: OSError) -> UserError:
        return UserError(
            f"feature store {self.folder}: cannot be read ({error.strerror}): expected the right to; {ELSEWHERE}"
        )

    def _path(self, name: str) -> Path:
        return entry_path(self.folder, name)


def _content(name: str, features: Tensor) -> tuple[bytes, memoryview]:
    """A safetensors file: its header, and the values.

    safetensors' own `save` would first copy all values into one new string, which costs more than it seems: a run of
    the ViT-L in bf16 took 3.63 s with it and 3.35 s without.
    """
    values = _values(features)
    layout = {"features": (DTYPES[features.dtype], features.shape, values.nbytes)}
    return header(layout, {IDENTITY: _identity(name, values)}), values


def _read_verified(path: Path, name: str) -> Tensor | None:
    """What is in a file, if it is what was written there."""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > LARGEST:
                return None
            content = file.read()  # not mapped: a file that shrinks under a mapping kills the process
        features = load(content)["features"]
        metadata = read_metadata(content)
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, SafetensorError, KeyError, ValueError, AttributeError):
        return None
    return features if metadata.get(IDENTITY) == _identity(name, _values(features)) else None


def _values(features: Tensor) -> memoryview:
    """The bytes of features that are on the CPU."""
    return features.contiguous().flatten().view(torch.uint8).numpy().data


def _identity(name: str, values: memoryview) -> str:
    return f"{name} {hashlib.sha256(values).hexdigest()}"
