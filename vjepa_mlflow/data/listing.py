"""From what the user names to a listing of samples."""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vjepa_mlflow.data.folders import read_folder, split_folders
from vjepa_mlflow.data.samples import Listing, Sample, few
from vjepa_mlflow.data.splits import check_samples
from vjepa_mlflow.data.tables import TABLE_SUFFIXES, find_split_lists, read_table
from vjepa_mlflow.data.walk import Walk, find_videos
from vjepa_mlflow.data.words import check_labels, spoken
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.paths import check_local, expand, is_file, is_link, is_there, shortened

DEMO = "demo"
REPEATED = "files that are named before"


def list_samples(data: str) -> list[Sample]:
    """The labelled videos of `data`, for training.

    Raises:
        UserError: there is no such folder or table, or what it holds cannot be trained on.
    """
    samples = read_data(data).samples
    check_samples(data, samples)
    return samples


def read_data(data: str) -> Listing:
    """Lists the labelled videos of `data`: a folder, a table, or `demo`. Nothing is decoded.

    Every video is listed once. What else is there is left out and named; what contradicts itself, or can be read in
    two ways, is refused.

    Raises:
        UserError: there is no such folder or table, it cannot be understood, or it holds no videos.
    """
    root = locate_data(data)
    if not is_there(root):
        raise UserError(f"data={shortened(data)}: no such folder or table (looked in {Path.cwd()})")
    listing = _read(root)
    if not listing.samples:
        loose = [name for names in listing.left_out.values() for name in names]
        there = f"; there are {few(loose)}" if loose else ""
        raise UserError(
            f"data={data}: no videos found: expected class folders, split folders or a table of video files{there}"
        )
    check_labels(data, listing.samples)
    _leave_out_repeated(data, listing)
    _check_groups(data, listing.samples)
    return listing


def locate_data(data: str) -> Path:
    """The folder or table that `data` names, absolute; the demo is drawn on first use.

    Raises:
        UserError: it is an address.
    """
    if data != DEMO:
        check_local("data", data)
        return expand("data", data)
    from vjepa_mlflow.data import demo  # it draws with PyTorch

    return demo.folder()


def _read(root: Path) -> Listing:
    if is_file(root):
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise UserError(f"data={root}: expected a folder, or a table ending in {', '.join(sorted(TABLE_SUFFIXES))}")
        return read_table(root)
    top = Walk(root, Listing()).entries(root)
    lists = {} if split_folders(top) else find_split_lists(top.files)
    return _read_lists(root, lists) if lists else read_folder(root)


def _read_lists(root: Path, lists: dict[Path, str]) -> Listing:
    """Reads the lists of a folder, if what they name is all that lies in its class folders, if there are any."""
    listing = Listing()
    for table, split in lists.items():
        try:
            listing.extend(read_table(table, split=split))
        except UserError as error:
            raise UserError(f"{error}; {table.name} was taken for the list of a split, as its name says") from error
    names = few([path.name for path in lists])
    listed = {os.path.realpath(path) for path in [*lists, *(sample.path for sample in listing.samples)]}
    beside = Listing()
    others = [path for path in find_videos(root, beside) if os.path.realpath(path) not in listed]
    for reason, left in beside.left_out.items():
        for name in left:
            if os.path.realpath(root / name) not in listed:
                listing.leave_out(reason, name)
    if len({path.relative_to(root).parts[0] for path in others}) > 1:
        raise UserError(
            f"data={root}: can be read in two ways: by {names}, which leave out {len(others)} videos such as "
            f"{others[0].relative_to(root)}, or by its folders as classes: expected either; move the lists or the "
            f"folders elsewhere, or give a table path,label[,split]"
        )
    for path in others:
        listing.leave_out("videos in no list", str(path.relative_to(root)))
    listing.notes.append(f"Read by its lists {names}")
    return listing


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
    first: dict[object, Sample] = {}
    for sample in samples:
        if sample.group is None or sample.split is None:
            continue
        other = first.setdefault(spoken(sample.group), sample)
        if other.split != sample.split:
            raise UserError(
                f"data={data}: group '{sample.group}' is in {other.split} ({other.name}) and in {sample.split} "
                f"({sample.name}): expected every group in one split"
            )
