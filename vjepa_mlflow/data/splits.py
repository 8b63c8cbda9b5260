"""Train, validation and test sets that can be trusted."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vjepa_mlflow.data.samples import SPLITS, Sample, label_ids, sorted_labels
from vjepa_mlflow.errors import UserError

FOLDS = 6
"""A split that is not given gets one of this many parts of the training videos."""


@dataclass(frozen=True)
class VideoDataset:
    """Labelled videos in three splits.

    Attributes:
        labels: the classes, in the order of the model's outputs.
        splits: samples of train, val and test, none of them empty.
        drawn: which splits were drawn here because the data did not give them.
    """

    labels: list[str]
    splits: dict[str, list[Sample]]
    drawn: list[str]

    def label_ids(self, split: str) -> list[int]:
        """The samples' classes as indices into `labels`."""
        return label_ids(self.splits[split], self.labels)


def check_samples(data: str, samples: Sequence[Sample]) -> None:
    """Refuses what no preflight needs to be run for.

    Raises:
        UserError: fewer than two classes, or a split that does not go with the training set.
    """
    trained = [sample for sample in samples if sample.split in (None, "train")]
    if not trained:
        raise UserError(
            f"data={data}: no videos in the train split: expected train, and val and test where you have them"
        )
    known = {sample.label for sample in trained}
    for sample in samples:
        if sample.label not in known:
            raise UserError(
                f"data={data}: class '{sample.label}' is in {sample.split} ({sample.name}) and not in train: "
                f"expected every class in train"
            )
    if len(known) < 2:
        raise UserError(f"data={data}: only one class, '{known.pop()}': expected at least two")


def make_dataset(data: str, samples: Sequence[Sample], *, seed: int) -> VideoDataset:
    """Draws the splits that are missing from the training videos, stratified by class, groups undivided.

    Files with the same content count as one group, so that no video is trained on and tested with.

    Raises:
        UserError: too few videos for the splits, or a file in two of the splits that were given.
    """
    check_samples(data, samples)
    drawn = [split for split in SPLITS[1:] if not any(sample.split == split for sample in samples)]
    assigned = _draw(data, samples, drawn, seed) if drawn else list(samples)
    dataset = VideoDataset(
        labels=sorted_labels(assigned),
        splits={split: [sample for sample in assigned if sample.split == split] for split in SPLITS},
        drawn=drawn,
    )
    _check_content(data, assigned)
    check_samples(data, assigned)
    return dataset


def _draw(data: str, samples: Sequence[Sample], missing: Sequence[str], seed: int) -> list[Sample]:
    # Imported here: it takes seconds, which data with all its splits need not wait for.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    pool = [sample for sample in samples if sample.split in (None, "train")]
    groups = undivided_groups(pool)
    folds = min(FOLDS, _fewest_groups(data, pool, groups, needed=len(missing) + 1))
    # With a group for each video the splitter for groups stratifies less exactly, in older releases far less.
    shared = len(set(groups)) < len(groups)
    splitter = (StratifiedGroupKFold if shared else StratifiedKFold)(folds, shuffle=True, random_state=seed)
    labels = [sample.label for sample in pool]
    parts = [part for _, part in splitter.split(pool, labels, groups if shared else None)]
    splits = ["train"] * len(pool)
    for split, part in zip(missing, parts, strict=False):
        for index in part:
            splits[index] = split
    drawn = [replace(sample, split=split) for sample, split in zip(pool, splits, strict=True)]
    return drawn + [sample for sample in samples if sample.split not in (None, "train")]


def undivided_groups(samples: Sequence[Sample]) -> list[str]:
    """Each sample's group, where a sample without one is its own, and groups that share a file's content are joined."""
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while joined.setdefault(name, name) != name:
            name = joined[name]
        return name

    for sample in samples:
        joined[root(f"content {sample.digest}")] = root(
            f"group {sample.group}" if sample.group else f"content {sample.digest}"
        )
    return [root(f"content {sample.digest}") for sample in samples]


def _fewest_groups(data: str, samples: Sequence[Sample], groups: Sequence[str], *, needed: int) -> int:
    groups_of = defaultdict(set)
    for sample, group in zip(samples, groups, strict=True):
        groups_of[sample.label].add(group)
    label = min(groups_of, key=lambda name: len(groups_of[name]))
    if len(groups_of[label]) < needed:
        raise UserError(
            f"data={data}: class '{label}' has {len(groups_of[label])} different videos or groups: "
            f"expected at least {needed} to draw the splits from, or a table that names them"
        )
    return len(groups_of[label])


def _check_content(data: str, samples: Sequence[Sample]) -> None:
    seen: dict[str, Sample] = {}
    for sample in samples:
        other = seen.setdefault(sample.digest, sample)
        if other.split != sample.split:
            raise UserError(
                f"data={data}: {other.name} in {other.split} and {sample.name} in {sample.split} are the same video: "
                f"expected every video in one split"
            )
