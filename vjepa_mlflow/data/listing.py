"""From what the user names to a listing of samples."""

import functools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vjepa_mlflow.data import demo
from vjepa_mlflow.data.folders import read_folder
from vjepa_mlflow.data.samples import Listing, Sample, few
from vjepa_mlflow.data.splits import check_samples, leave_out_small
from vjepa_mlflow.data.tables import TABLE_SUFFIXES, find_split_lists, is_list, read_table
from vjepa_mlflow.data.walk import Walk, find_videos
from vjepa_mlflow.data.words import check_labels, spoken
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import check_local, expand, is_file, is_link, is_there, shortened

DEMO = "demo"
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
    root = demo.folder() if data == DEMO else locate_data(data)
    if not is_there(root):
        raise UserError(f"data={shortened(data)}: no such folder or table (looked in {Path.cwd()})")
    listing = _read(root)
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
    if data == DEMO:
        return demo.place()
    check_local("data", data)
    return expand("data", data)


def _read(root: Path) -> Listing:
    if is_file(root):
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise UserError(f"data={root}: expected a folder, or a table ending in {', '.join(sorted(TABLE_SUFFIXES))}")
        return read_table(root)
    top = Walk(root, Listing()).entries(root)
    named = find_split_lists(top.files)
    lists = {table: split for table, split in named.items() if is_list(table)}
    if not lists and (len({*named.values()}) > 1 or not any(next(find_videos(one), None) for one in top.folders)):
        lists = named  # too much is said by their names: whoever reads them will tell what is wrong with them
    return _read_lists(root, lists) if lists else read_folder(root)


def _read_lists(root: Path, lists: dict[Path, str]) -> Listing:
    """Reads the lists of a folder, if they name all videos that lie in its class folders."""
    listing = Listing()
    of_split: dict[tuple[str, str], Path] = {}
    for table, split in lists.items():
        part = read_table(table, split=split)
        for sample, real in zip(part.samples, _real_paths(part.samples), strict=True):
            other = of_split.setdefault((split, real), table)
            if other != table:
                raise UserError(
                    f"data={root}: {other.name} and {table.name} are both lists of {split} and name {sample.name}: "
                    f"expected one of them"
                )
        listing.extend(part)
    names = few([path.name for path in lists])
    listed = {os.path.realpath(path) for path in [*lists, *(sample.path for sample in listing.samples)]}
    beside = Listing()
    others = [path for path in find_videos(root, beside) if os.path.realpath(path) not in listed]
    if len({path.relative_to(root).parts[0] for path in others}) > 1:
        raise UserError(
            f"data={root}: can be read in two ways: by {names}, without {len(others)} videos such as "
            f"{others[0].relative_to(root)}, or by its folders: expected either; move the lists or the folders "
            f"elsewhere, or give a table path,label[,split]"
        )
    for path in others:
        listing.leave_out("videos in no list", str(path.relative_to(root)))
    for reason, left in beside.left_out.items():
        for name in left:
            if os.path.realpath(root / name) not in listed:
                listing.leave_out(reason, name)
    listing.notes.append(f"Read by its lists {names}")
    return listing


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
    for sample, path in zip(listing.samples, _real_paths(listing.samples), strict=True):
        known = first.setdefault(path, sample)
        if known is sample:
            samples.append(sample)
            continue
        for name in ("label", "split", "group"):
            if getattr(known, name) != getattr(sample, name):
                raise UserError(
                    f"data={data}: {sample.name} has {name} {getattr(sample, name) or 'none'}, and "
                    f"{'before' if known.name == sample.name else known.name + ', the same file,'} "
                    f"{getattr(known, name) or 'none'}: expected every video once"
                )
        listing.leave_out(REPEATED, sample.name)
    listing.samples = samples


def _real_paths(samples: Sequence[Sample]) -> Iterator[str]:
    """Where the files are: `os.path.realpath`, which looks at each folder on the way, but for each folder once."""
    real_folder = functools.cache(os.path.realpath)
    for path in (sample.path for sample in samples):
        yield os.path.realpath(path) if is_link(path) else f"{real_folder(path.parent)}/{path.name}"


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
