"""What a logged model was trained, validated and tested on: as it says itself, or else as its run does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow import data, flavor, tracking
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import expand


@dataclass(frozen=True)
class Memory:
    """What models have seen that are to be evaluated on the same videos.

    Attributes:
        own: of the one that is evaluated now.
        other: of the one that it is compared with, if any.
    """

    own: data.SeenVideos
    other: data.SeenVideos | None = None

    @property
    def _all(self) -> list[data.SeenVideos]:
        return [self.own] if self.other is None else [self.own, self.other]

    def role(self, digest: str) -> str | None:
        """As what one of them has seen a content: train before val before test; None for a new one."""
        return data.joint_role(self._all)(digest)

    @property
    def owner(self) -> str:
        """Who it is that knows, with the verb."""
        return "the model knows" if self.other is None else "one of the two models knows"

    def unseen(self, samples: Sequence[data.Sample]) -> list[data.Sample]:
        """The videos that none of them was trained or validated on."""
        return [sample for sample in samples if self.role(sample.digest) in (None, "test")]

    def describe(self, samples: Sequence[data.Sample]) -> str:
        """As what the model has seen some videos, in numbers."""
        counts = self.own.count(samples)
        numbers = ", ".join(f"{counts[role]} {word}" for role, word in WORDS.items())
        return numbers + (f"; not known of {', '.join(self.own.unknown)}" if self.own.unknown else "")

    def sentence(self, split: str, samples: Sequence[data.Sample]) -> str:
        """What is to be said of the figures that the model gets on some videos."""
        seen = describe_seen(self.own, samples)
        sentence = f"Of these the model has seen: {self.describe(samples)}"
        if seen == "unknown":
            return f"{sentence}: whether its {split} figures are those of a test is not known"
        if seen != "0":
            return f"{sentence}: its {split} figures are not those of a test"
        groups = {name for seen in self._all for name in seen.groups_trained_on(samples)}
        return sentence + (f"; but groups of these names were trained on: {data.few(sorted(groups))}" if groups else "")


WORDS = {"train": "trained on", "val": "validated on", "test": "tested on", "new": "new"}


def describe_seen(seen: data.SeenVideos, samples: Sequence[data.Sample]) -> str:
    """How many of some videos a model was trained or validated on, or `unknown`: what a figure's tag says."""
    counts = seen.count(samples)
    learnt_from = counts["train"] + counts["val"]
    return "unknown" if seen.unknown and not learnt_from else str(learnt_from)


def seen_by(model_uri: str, fetched: flavor.FetchedModel) -> data.SeenVideos:
    """What a model has seen; that nothing is known of it, where neither it nor its run says anything.

    Raises:
        UserError: it says so itself, and cannot be read.
    """
    seen = data.read_seen(fetched.checkpoint)
    if seen is not None:
        return seen
    nothing = data.SeenVideos.nothing_of(model_uri)
    return nothing if fetched.run_id is None else _seen_in_run(model_uri, fetched.run_id, followed=())


def _seen_in_run(name: str, run_id: str, followed: tuple[str, ...]) -> data.SeenVideos:
    """What a model of an older version has seen, by the `split.csv` of its run and of those before it."""
    try:
        began = None if run_id in followed else tracking.read_beginning(run_id)
    except UserError:
        began = None
    if began is None or began.searched & {"seed", "model"}:  # its trials had other splits each
        return data.SeenVideos.nothing_of(name)
    return data.SeenVideos.of(began.sets(), _seen_before(began.model, (*followed, run_id)))


def seen_by_checkpoint(name: str, folder: Path) -> data.SeenVideos | None:
    """What the head of a local checkpoint has seen, if it was trained here; it may lie in a logged model's folder.

    Raises:
        UserError: it says so itself, and cannot be read.
    """
    seen = data.read_seen(folder)
    if seen is None and (folder.parent / "MLmodel").is_file():
        return seen_by(name, flavor.fetch_model(str(folder.parent)))
    return seen


def _seen_before(model: str, followed: tuple[str, ...]) -> data.SeenVideos | None:
    """What the model that another one was trained on from has seen; None for a checkpoint from elsewhere."""
    if not model.startswith(flavor.URI_SCHEMES):
        folder = expand("model", model)
        if folder.is_dir():
            return seen_by_checkpoint(model, folder)
        return data.SeenVideos.nothing_of(model) if model.startswith((".", "/", "~")) else None
    source = None if "@" in model else tracking.source_run(model)  # an alias may be another version's by now
    return data.SeenVideos.nothing_of(model) if source is None else _seen_in_run(model, source, followed)
