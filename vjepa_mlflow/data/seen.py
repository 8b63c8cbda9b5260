"""What a model knows of videos: which contents it was trained, validated and tested on."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow.data.samples import SPLITS, Sample
from vjepa_mlflow.errors import UserError

FILE = "seen_videos.json"
"""Of a saved model, beside its weights."""

_DIGITS = 16
"""Of a content's SHA-256 that are kept: among a million videos two agree once in 37 million times."""


@dataclass(frozen=True)
class SeenVideos:
    """The contents that a model, and all those that its head was trained on from, have seen, and as what.

    Attributes:
        contents: the first 16 hexadecimal digits of their SHA-256, by split. One may be in several.
        unknown: earlier models of which nothing is known.
    """

    contents: Mapping[str, frozenset[str]]
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, digests: Mapping[str, Iterable[str]], before: "SeenVideos | None" = None) -> "SeenVideos":
        """Of a model's own sets, with what the model before it has seen.

        Args:
            digests: of the videos, by split.
            before: the model that its head was trained on from.
        """
        own = {split: frozenset(digest[:_DIGITS] for digest in digests.get(split, ())) for split in SPLITS}
        if before is None:
            return cls(own)
        return cls({split: own[split] | before.contents[split] for split in SPLITS}, before.unknown)

    @classmethod
    def nothing_of(cls, model: str) -> "SeenVideos":
        """Of a model of which nothing is known."""
        return cls({split: frozenset() for split in SPLITS}, (model,))

    def role(self, digest: str) -> str | None:
        """As what a content was seen: train before val before test, since what was trained on is no test; or None."""
        return next((split for split in SPLITS if digest[:_DIGITS] in self.contents[split]), None)

    def count(self, samples: Iterable[Sample]) -> Counter[str]:
        """How many of some videos were seen as what: train, val or test, or new."""
        return Counter(self.role(sample.digest) or "new" for sample in samples)

    def write(self, folder: Path) -> None:
        """Keeps it beside a model's weights.

        Raises:
            OSError: the file cannot be written.
        """
        contents = {split: sorted(self.contents[split]) for split in SPLITS}
        (folder / FILE).write_text(json.dumps({**contents, "unknown": self.unknown}), encoding="utf-8")


def read_seen(folder: Path) -> SeenVideos | None:
    """What was kept beside a model's weights; None where nothing was.

    Raises:
        UserError: it cannot be read as such.
    """
    try:
        kept = json.loads((folder / FILE).read_bytes())
        return SeenVideos({split: frozenset(kept[split]) for split in SPLITS}, tuple(kept["unknown"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FILE}: cannot be read: expected it as it was saved with the model") from error
