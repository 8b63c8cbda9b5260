"""Train, validation and test sets that can be trusted."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vjepa_mlflow.data.samples import SPLITS, Listing, Sample, few, label_ids, sorted_labels
from vjepa_mlflow.data.split_search import NoSplitError, draw_splits
from vjepa_mlflow.data.split_units import SHARE, TOLERANCE
from vjepa_mlflow.data.words import spoken
from vjepa_mlflow.errors import UserError

ORDER = "sha256"
"""How epochs' orders are drawn, one of `features.ORDERS`, in runs that begin now."""

Role = Callable[[str], str | None]
"""From a content's digest to the split that a model knows it in, or None."""


@dataclass(frozen=True)
class VideoDataset:
    """Labelled videos in three splits.

    Attributes:
        labels: the classes, in the order of the model's outputs.
        splits: samples of train, val and test, none of them empty.
        drawn: which splits were drawn because the data did not give them.
        order: how an epoch's order is drawn, one of `features.ORDERS`.
        seed: of the splits that were drawn.
    """

    labels: list[str]
    splits: dict[str, list[Sample]]
    drawn: list[str]
    order: str = ORDER
    seed: int = 0

    def label_ids(self, split: str) -> list[int]:
        """The samples' classes as indices into `labels`."""
        return label_ids(self.splits[split], self.labels)

    def remarks(self) -> list[str]:
        """What one should know of the splits: classes that are in none but training, and drawn shares that are off."""
        remarks = []
        pool = sum(len(self.splits[split]) for split in ("train", *self.drawn))
        for split in SPLITS[1:]:
            absent = sorted({*self.labels} - {sample.label for sample in self.splits[split]})
            if absent:
                remarks.append(f"{split} has no video of {len(absent)} of {len(self.labels)} classes: {few(absent)}")
            share = len(self.splits[split]) / pool
            if split in self.drawn and abs(share - SHARE) > TOLERANCE:
                remarks.append(
                    f"{split} has {share:.0%} of the videos that it was drawn from, where {SHARE:.0%} are meant"
                )
        return remarks

    def doubles(self) -> list[str]:
        """The contents that several files have, as these files' names; they are in one split."""
        names = defaultdict(list)
        for sample in (sample for samples in self.splits.values() for sample in samples):
            names[sample.digest].append(sample.name)
        return [" = ".join(same) for same in names.values() if len(same) > 1]


def leave_out_small(listing: Listing, min_videos: int) -> None:
    """Takes classes with fewer videos than that out of a listing.

    Raises:
        UserError: none is left.
    """
    counts = Counter(sample.label for sample in listing.samples)
    for label in sorted(label for label, count in counts.items() if count < min_videos):
        listing.leave_out(f"classes with fewer than min_videos={min_videos} videos", f"{label} ({counts[label]})")
    listing.samples = [sample for sample in listing.samples if counts[sample.label] >= min_videos]
    if not listing.samples:
        raise UserError(
            f"min_videos={min_videos}: no class has so many videos: expected at most {max(counts.values())}"
        )


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
    trained_labels = {sample.label for sample in trained}
    for sample in samples:
        if sample.label not in trained_labels:
            raise UserError(
                f"data={data}: class '{sample.label}' is in {sample.split} ({sample.name}) and not in train: "
                f"expected every class in train"
            )
    if len(trained_labels) < 2:
        raise UserError(f"data={data}: only one class, '{trained_labels.pop()}': expected at least two")


def make_dataset(data: str, samples: Sequence[Sample], *, seed: int, role: Role = lambda _: None) -> VideoDataset:
    """Draws the splits that are missing from the training videos, stratified by class, groups undivided.

    Files with the same content count as one group, so that no video is trained on and tested with.

    Args:
        data: what the samples are of.
        samples: with their digests.
        seed: of what is drawn.
        role: what a model that is trained further knows of a content: it keeps its split where that one is drawn.

    Raises:
        UserError: no such splits can be drawn, or a content is in two classes, or in two of the splits that were given.
    """
    check_content(data, samples)
    check_samples(data, samples)
    missing = [split for split in SPLITS[1:] if not any(sample.split == split for sample in samples)]
    pool = [sample for sample in samples if sample.split in (None, "train")]
    given = [sample for sample in samples if sample.split not in (None, "train")]
    assigned = [*draw_missing(data, pool, missing, seed=seed, role=role, trains=True), *given]
    splits = {split: [sample for sample in assigned if sample.split == split] for split in SPLITS}
    for split in SPLITS:
        if not splits[split]:
            seen = sum(role(sample.digest) is not None for sample in pool)
            before = f"; {seen} of {len(pool)} videos keep the split that the model before had them in" if seen else ""
            raise UserError(
                f"data={data}: no video is left for {split}: expected a class of at least {len(missing) + 1} different "
                f"videos or groups to draw from, or data that gives the splits{before}"
            )
    check_samples(data, assigned)
    return VideoDataset(labels=sorted_labels(assigned), splits=splits, drawn=missing, seed=seed)


def draw_missing(
    data: str,
    samples: Sequence[Sample],
    missing: Sequence[str],
    *,
    seed: int,
    role: Role = lambda _: None,
    trains: bool = False,
) -> list[Sample]:
    """The samples with their splits: train, or one of those that are missing, which are drawn.

    Args:
        data: what the samples are of.
        samples: with their digests.
        missing: some of val and test.
        seed: of what is drawn.
        role: the split that a content is known in: it keeps it, if that one is missing, and is trained on otherwise.
        trains: whether training follows, for which every class is needed, whatever is known of it.

    Raises:
        UserError: there are no such splits.
    """
    units = undivided_groups(samples)
    roles = _roles_of_units(samples, units, role)
    for unit in _wanted_for_training(samples, units, roles, missing) if trains else ():
        del roles[unit]
    new = [index for index, unit in enumerate(units) if unit not in roles]
    splits = [roles.get(unit, "train") for unit in units]
    if missing and new:
        labels = [samples[index].label for index in new]
        try:
            drawn = draw_splits(labels, [units[index] for index in new], missing=missing, seed=seed)
        except NoSplitError as error:
            if roles:  # the splits have videos without these
                return _in_splits(samples, splits, missing)
            raise UserError(
                f"data={data}: {error}: expected other groups, fewer of them across classes, data that gives the "
                f"splits, or min_videos to leave small classes out"
            ) from error
        for index, split in zip(new, drawn, strict=True):
            splits[index] = split
    return _in_splits(samples, splits, missing)


def _in_splits(samples: Sequence[Sample], splits: Sequence[str], missing: Sequence[str]) -> list[Sample]:
    """The samples in these splits, but in train instead of one that is given, and not missing."""
    return [
        replace(sample, split=split if split in missing else "train")
        for sample, split in zip(samples, splits, strict=True)
    ]


def _wanted_for_training(
    samples: Sequence[Sample], units: Sequence[str], roles: Mapping[str, str], missing: Sequence[str]
) -> set[str]:
    """Of classes that are known in val and test alone, units that are drawn anew, so that some are trained on.

    Those of val go before those of test, which is worth more.
    """
    units_of: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for sample, unit in zip(samples, units, strict=True):
        split = roles.get(unit, "train")
        units_of[sample.label][split if split in missing else "train"].add(unit)
    lacking = [of_split for of_split in units_of.values() if not of_split["train"]]
    return {unit for of_split in lacking for unit in of_split["val"] or of_split["test"]}


def _roles_of_units(samples: Sequence[Sample], units: Sequence[str], role: Role) -> dict[str, str]:
    """The split in which a unit is known; of several the first of `SPLITS`, since what was trained on stays so."""
    roles: dict[str, str] = {}
    for sample, unit in zip(samples, units, strict=True):
        split = role(sample.digest)
        if split is not None:
            roles[unit] = min(split, roles.get(unit, split), key=SPLITS.index)
    return roles


def undivided_groups(samples: Sequence[Sample]) -> list[str]:
    """Each sample's group, where a sample without one is its own, and groups that share a file's content are joined.

    A group is called by a digest in it, so that its name depends neither on the order of the samples nor on theirs.
    """
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while joined.setdefault(name, name) != name:
            joined[name] = name = joined[joined[name]]
        return name

    for sample in samples:
        first, second = root(f"content {sample.digest}"), root(_group(sample))
        # By name: contents go before groups, and the least of all is the root.
        joined[max(first, second)] = min(first, second)
    return [root(f"content {sample.digest}") for sample in samples]


def _group(sample: Sample) -> str:
    return f"group {spoken(sample.group)}" if sample.group else f"content {sample.digest}"


def check_content(data: str, samples: Sequence[Sample]) -> None:
    """Refuses the same content in two classes, or in two given splits.

    Raises:
        UserError: names both files.
    """
    seen: dict[str, Sample] = {}
    for sample in samples:
        other = seen.setdefault(sample.digest, sample)
        if other.label != sample.label:
            raise UserError(
                f"data={data}: {other.name} of class '{other.label}' and {sample.name} of class '{sample.label}' are "
                f"the same video: expected every video in one class"
            )
        if other.split != sample.split:
            raise UserError(
                f"data={data}: {other.name} in {other.split} and {sample.name} in {sample.split} are the same video: "
                f"expected every video in one split"
            )
