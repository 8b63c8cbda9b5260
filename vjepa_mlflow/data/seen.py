"""What a model knows of videos: which contents it was trained, validated and tested on."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa_mlflow.data.samples import SPLITS, Sample
from vjepa_mlflow.data.words import spoken
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.digest import sha256_of_text
from vjepa_mlflow.files.reading import read_json

FILE = "seen_videos.json"
"""Of a saved model, beside its weights."""

_DIGITS = 16
"""Of a content's SHA-256 that are kept: among a million videos two agree once in 37 million times."""

_DIGEST = re.compile(f"[0-9a-f]{{{_DIGITS}}}")

_LARGEST = 1 << 28
"""Bytes of the file: of twelve million videos."""


@dataclass(frozen=True)
class SeenVideos:
    """The contents that a model, and all those that its head was trained on from, have seen, and as what.

    Attributes:
        contents: the first 16 hexadecimal digits of their SHA-256, by split. One may be in several.
        groups: as many digits of the SHA-256 of the names of the groups that were trained or validated on.
        unknown: earlier models of which nothing is known.
    """

    contents: Mapping[str, frozenset[str]]
    groups: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, sets: Mapping[str, Sequence[Sample]], before: "SeenVideos | None" = None) -> "SeenVideos":
        """Of a model's own sets, with what the model before it has seen.

        Args:
            sets: the videos, by split.
            before: the model that its head was trained on from.
        """
        own = {split: frozenset(sample.digest[:_DIGITS] for sample in sets.get(split, ())) for split in SPLITS}
        groups = frozenset(
            _group(sample.group) for split in SPLITS[:2] for sample in sets.get(split, ()) if sample.group
        )
        if before is None:
            return cls(own, groups)
        contents = {split: own[split] | before.contents[split] for split in SPLITS}
        return cls(contents, groups | before.groups, before.unknown)

    @classmethod
    def nothing_of(cls, model: str) -> "SeenVideos":
        """Of a model of which nothing is known."""
        return cls({split: frozenset() for split in SPLITS}, unknown=(model,))

    def role(self, digest: str) -> str | None:
        """As what a content was seen: train before val before test, since what was trained on is no test; or None."""
        return next((split for split in SPLITS if digest[:_DIGITS] in self.contents[split]), None)

    def count(self, samples: Iterable[Sample]) -> Counter[str]:
        """How many of some videos were seen as what: train, val or test, or new."""
        return Counter(self.role(sample.digest) or "new" for sample in samples)

    def groups_trained_on(self, samples: Iterable[Sample]) -> list[str]:
        """The groups of some videos that have the name of one that was trained or validated on."""
        names = {sample.group for sample in samples if sample.group}
        return sorted(name for name in names if _group(name) in self.groups)

    def write(self, folder: Path) -> None:
        """Keeps it beside a model's weights.

        Raises:
            OSError: the file cannot be written.
        """
        contents = {split: sorted(self.contents[split]) for split in SPLITS}
        values = {**contents, "groups": sorted(self.groups), "unknown": self.unknown}
        (folder / FILE).write_text(json.dumps(values), encoding="utf-8")


def read_seen(folder: Path) -> SeenVideos | None:
    """What was kept beside a model's weights; None where nothing was.

    Raises:
        UserError: it cannot be read as such.
    """
    try:
        values = read_json(folder / FILE, at_most=_LARGEST)
        contents = {split: frozenset(_digests(values[split])) for split in SPLITS}
        return SeenVideos(contents, frozenset(_digests(values["groups"])), tuple(_texts(values["unknown"])))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FILE}: cannot be read: expected it as it was saved with the model") from error


def _texts(values: Any) -> list[str]:
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return values
    raise ValueError("not a list of texts")


def _digests(values: Any) -> list[str]:
    if all(_DIGEST.fullmatch(value) for value in _texts(values)):
        return values
    raise ValueError("not a list of digests")


def joint_role(models: Sequence[SeenVideos]) -> Callable[[str], str | None]:
    """As what any of several models has seen a content: train before val before test; None for a new one."""

    def role(digest: str) -> str | None:
        roles = {seen.role(digest) for seen in models}
        return next((split for split in SPLITS if split in roles), None)

    return role


def _group(name: str) -> str:
    return sha256_of_text(f"group {spoken(name)}")[:_DIGITS]
