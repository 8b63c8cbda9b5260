"""From what the user names to a listing of samples."""

import re
from dataclasses import replace
from pathlib import Path

from vjepa_mlflow.data.data_source import DataSource
from vjepa_mlflow.data.demo import DemoSet
from vjepa_mlflow.data.folders import ClassFolders
from vjepa_mlflow.data.list_folders import FolderWithLists
from vjepa_mlflow.data.samples import Listing, Sample
from vjepa_mlflow.data.splits import check_samples, leave_out_small
from vjepa_mlflow.data.tables import Table
from vjepa_mlflow.data.walk import real_paths
from vjepa_mlflow.data.words import check_labels, spoken
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import check_local, expand, is_there, shortened

SOURCES: tuple[type[DataSource], ...] = (DemoSet, Table, FolderWithLists, ClassFolders)
"""The kinds of data, in the order in which they are asked: `Table` takes any file, the last one all that is left."""

REPEATED = "files that are named before"
_UCF101 = re.compile(r"v_.+_(g\d+)_c\d+\.\w+")
"""Names that say which videos were cut from one, as in UCF101 (Soomro, Zamir and Shah, 2012)."""


def read_training_data(data: str, *, min_videos: int = 1) -> Listing:
    """Like `read_data`, for training.

    Args:
        data: a folder, a table, or `demo`.
        min_videos: classes with fewer are left out.

    Raises:
        UserError: there is no such folder or table, or what it holds cannot be trained on.
    """
    listing = read_data(data)
    leave_out_small(listing, min_videos)
    check_samples(data, listing.samples)
    return listing


def read_data(data: str) -> Listing:
    """Lists the labelled videos of `data`: a folder, a table, or `demo`. Nothing is decoded.

    Every video is listed once. What else is there is left out and named; what contradicts itself, or can be read in
    two ways, is refused.

    Raises:
        UserError: there is no such folder or table, it cannot be understood, or it holds no videos.
    """
    listing = _source_of(data).read()
    if not listing.samples:
        raise UserError(
            f"data={data}: no videos found: expected class folders, split folders or a table of video files"
            + "".join(f"; {line}" for line in listing.describe_left_out())
        )
    _group_by_names(listing)
    check_labels(data, listing.samples)
    _leave_out_repeated(data, listing)
    _check_groups(data, listing.samples)
    return listing


def locate_data(data: str) -> Path:
    """The folder or table that `data` names, absolute. The demo's is not looked at: `read_data` draws it.

    Raises:
        UserError: it is an address.
    """
    if (source := _named_source(data)) is not None:
        return source.place
    check_local("data", data)
    return expand("data", data)


def _source_of(data: str) -> DataSource:
    """What the user names, looked at as far as it takes to say of which kind it is.

    Raises:
        UserError: nothing is there.
    """
    if (source := _named_source(data)) is not None:
        return source
    place = locate_data(data)
    if not is_there(place):
        raise UserError(f"data={shortened(data)}: no such folder or table (looked in {Path.cwd()})")
    sources = (kind.at(place) for kind in SOURCES)
    return next(source for source in sources if source is not None)


def _named_source(data: str) -> DataSource | None:
    """What goes by that name, if anything does."""
    sources = (kind.named(data) for kind in SOURCES)
    return next((source for source in sources if source is not None), None)


def _group_by_names(listing: Listing) -> None:
    """Keeps together, where splits are drawn, what names say was cut from one video."""
    cut = [_UCF101.fullmatch(sample.path.name) for sample in listing.samples]
    if any(sample.group for sample in listing.samples) or not any(cut):
        return
    listing.samples = [
        replace(sample, group=f"{sample.label} {match[1]}") if match and sample.split in (None, "train") else sample
        for sample, match in zip(listing.samples, cut, strict=True)
    ]
    listing.notes.append(
        f"Videos with the same g number in their names, as in UCF101, are taken for a group: {sum(map(bool, cut))} of "
        f"{len(cut)}"
    )


def _leave_out_repeated(data: str, listing: Listing) -> None:
    """Keeps a file that is named again once, if all is said of it that was said before."""
    first: dict[str, Sample] = {}
    samples = []
    for sample, path in zip(listing.samples, real_paths(listing.samples), strict=True):
        before = first.setdefault(path, sample)
        if before is sample:
            samples.append(sample)
            continue
        for name in ("label", "split", "group"):
            if getattr(before, name) != getattr(sample, name):
                raise UserError(
                    f"data={data}: {sample.name} has {name} {getattr(sample, name) or 'none'}, and "
                    f"{'before' if before.name == sample.name else before.name + ', the same file,'} "
                    f"{getattr(before, name) or 'none'}: expected every video once"
                )
        listing.leave_out(REPEATED, sample.name)
    listing.samples = samples


def _check_groups(data: str, samples: list[Sample]) -> None:
    """Refuses groups that the given splits divide."""
    first: dict[str, Sample] = {}
    for sample in samples:
        if sample.group is None or sample.split is None:
            continue
        other = first.setdefault(spoken(sample.group), sample)
        if other.split != sample.split:
            again = "" if other.group == sample.group else f", as '{sample.group}',"
            raise UserError(
                f"data={data}: group '{other.group}' is in {other.split} ({other.name}) and{again} in {sample.split} "
                f"({sample.name}): expected every group in one split"
            )
