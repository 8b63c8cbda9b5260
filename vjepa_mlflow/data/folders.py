"""Class folders, with or without split folders above them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vjepa_mlflow.data.data_source import DataSource
from vjepa_mlflow.data.samples import Listing, Sample, few
from vjepa_mlflow.data.tables import TABLE_SUFFIXES
from vjepa_mlflow.data.walk import Entries, Walk, find_videos, in_order
from vjepa_mlflow.data.words import split_named, split_words
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import is_link, text_of

EMPTY = "folders without videos"
LOOSE = "videos in no class folder"


class ClassFolder(NamedTuple):
    """A folder of one class's videos, and its split."""

    folder: Path
    split: str | None


class ClassFolders(DataSource):
    """A folder of class folders, or of split folders with class folders in them."""

    @classmethod
    def at(cls, place: Path) -> "ClassFolders":
        """Whatever is no other kind: `read` says what is wrong with it."""
        return cls(place)

    def read(self) -> Listing:
        """See `read_folder`."""
        return read_folder(self.place)


def read_folder(root: Path) -> Listing:
    """Reads `root/CLASS/...` or `root/SPLIT/CLASS/...`; a class is named by its folder.

    Raises:
        UserError: it can be read in two ways, a folder may not be read, or a class folder of the training split is
            empty.
    """
    listing = Listing()
    walk = Walk(root, listing)
    top = walk.entries(root)
    splits = split_folders(top)
    if splits:
        _check_splits(walk, top, splits)
        _leave_out_loose(walk, top.files)
        classes = []
        for folder, split in splits.items():
            inside = walk.entries(folder)
            _leave_out_loose(walk, inside.files)
            classes += [ClassFolder(inner, split) for inner in inside.folders]
    else:
        _check_classes(walk, top)
        _leave_out_loose(walk, top.files)
        classes = [ClassFolder(inner, None) for inner in top.folders]
    listing.samples = sorted(_read(walk, classes), key=lambda sample: in_order(sample.name))
    _check_empty(walk, classes)
    _check_inner_folders(walk, listing.samples)
    if not splits:
        _note_folders_in_classes(listing)
    return listing


def split_folders(top: Entries) -> dict[Path, str]:
    """The folders that are named as splits are, with their splits."""
    return {folder: split for folder in top.folders if (split := split_named(text_of(folder.name)))}


def _leave_out_loose(walk: Walk, files: list[Path]) -> None:
    for path in walk.videos_among(files):
        walk.listing.leave_out(LOOSE, walk.name(path))


def _read(walk: Walk, classes: Iterable[ClassFolder]) -> Iterable[Sample]:
    """The videos of all classes: first what really lies there, then what links lead to that is nowhere else."""
    homes = {walk.name(folder): (text_of(folder.name), split) for folder, split in classes}
    walk.links.extend(folder for folder, _ in classes if is_link(folder))
    for folder, _ in classes:
        if not is_link(folder):
            yield from _samples(walk, folder, homes)
    for link in walk.links:  # which may become more
        first = walk.known_as(link)
        if first is None:
            yield from _samples(walk, link, homes)
        elif _home(first, homes) in (None, _home(walk.name(link), homes)):
            walk.leave_out_seen(link, first)
        else:
            raise UserError(
                f"data={walk.root}: {first} and {walk.name(link)} are the same folder: expected every video in one "
                f"class and one split"
            )


def _samples(walk: Walk, folder: Path, homes: Mapping[str, tuple[str, str | None]]) -> Iterable[Sample]:
    home = _home(walk.name(folder), homes)
    assert home is not None
    label, split = homes[home]
    return (Sample(path=path, name=walk.name(path), label=label, split=split) for path in walk.videos(folder))


def _home(name: str, homes: Iterable[str]) -> str | None:
    """The class folder that a folder is or lies in."""
    while name not in homes and "/" in name:
        name = name.rpartition("/")[0]
    return name if name in homes else None


def _check_empty(walk: Walk, classes: Iterable[ClassFolder]) -> None:
    filled = {sample.name.rpartition("/")[0] for sample in walk.listing.samples}
    filled |= {"/".join(parts[:depth]) for parts in (name.split("/") for name in filled) for depth in (1, 2)}
    for folder, split in classes:
        if walk.name(folder) in filled:
            continue
        if split in (None, "train"):
            raise UserError(
                f"data={walk.root}: class folder {folder} holds no videos: expected at least one to train on, or no "
                f"such folder"
            )
        walk.listing.leave_out(EMPTY, walk.name(folder))


def _check_inner_folders(walk: Walk, samples: Sequence[Sample]) -> None:
    """Refuses folders whose inner folders have the same names each time: either might be the classes."""
    homes = defaultdict(set)
    for sample in samples:
        *above, _ = sample.name.split("/")
        homes[sample.label].add("/".join(above[2 if sample.split else 1 :][:1]))
    inner = Counter(name for names in homes.values() for name in names if name)
    again = sorted(name for name, count in inner.items() if count > 1)
    if len(again) > 1 and 2 * sum("" in names for names in homes.values()) < len(homes):
        raise UserError(
            f"data={walk.root}: can be read in two ways: {few(sorted(homes))} as classes, or {few(again)} in "
            f"them, which come again in others: expected class folders without such ones, or a table "
            f"path,label[,split][,group]"
        )


def _note_folders_in_classes(listing: Listing) -> None:
    inner = sorted({"/".join(sample.name.split("/")[:2]) for sample in listing.samples if sample.name.count("/") > 1})
    if inner:
        listing.notes.append(
            f"Folders inside class folders mean nothing ({few(inner)}): where their videos are to stay in one split, "
            f"give a table path,label,group"
        )


def _check_splits(walk: Walk, top: Entries, splits: Mapping[Path, str]) -> None:
    """Refuses split folders beside which there are others with videos, or which hold no classes."""
    named: dict[str, Path] = {}
    for folder, split in splits.items():
        first = named.setdefault(split, folder)
        if first != folder:
            raise UserError(f"data={walk.root}: folders {first.name} and {folder.name} are both {split}: expected one")
    beside = [folder for folder in top.folders if folder not in splits]
    others = [folder.name for folder in beside if _has_videos(folder)]
    if others:
        names = ", ".join(folder.name for folder in splits)
        raise UserError(
            f"data={walk.root}: can be read in two ways: {names} as splits, and {few(others)} as nothing; or all of "
            f"them as classes: expected either, so move or rename some, or give a table path,label[,split]"
        )
    for folder in beside:
        walk.listing.leave_out(EMPTY, walk.name(folder))
    for folder in splits:
        folders, files = walk.entries(folder)
        loose = list(Walk(walk.root, Listing()).videos_among(files))
        if loose and not any(map(_has_videos, folders)):
            raise UserError(
                f"data={walk.root}: {len(loose)} videos lie in {folder.name} itself, in no class folder "
                f"({loose[0].name}): expected {folder.name}/CLASS/{loose[0].name}; or, if {folder.name} is a class, "
                f"another name of it, or a table path,label"
            )


def _check_classes(walk: Walk, top: Entries) -> None:
    """Refuses class folders that might be something else."""
    inside = {folder: walk.entries(folder) for folder in top.folders}
    names = {folder.name for folder in top.folders}
    table = "or give a table path,label[,split]"
    if len(inside) == 1:
        (one,) = inside
        tables = [path for path in top.files if path.suffix.lower() in TABLE_SUFFIXES]
        if len(tables) == 1:
            raise UserError(
                f"data={walk.root}: its only folder, {one.name}, would be the only class: did you mean "
                f"data={tables[0]}?"
            )
        below = [folder for folder in inside[one].folders if _has_videos(folder)]
        if len(below) > 1 or split_folders(inside[one]):
            raise UserError(
                f"data={walk.root}: its only folder, {one.name}, would be the only class: did you mean data={one}?"
            )
    for folder, entries in inside.items():
        within = [inner.name for inner in entries.folders]
        if shared := sorted((names - {folder.name}) & set(within)):
            raise UserError(
                f"data={walk.root}: can be read in two ways: {folder.name} as a class, or as a set of its own with the "
                f"classes {few(shared)}, which lie beside it as well: expected train, val and test folders where there "
                f"are sets, {table}"
            )
        if split_folders(entries):
            raise UserError(
                f"data={walk.root}: can be read in two ways: {few(within)} in {folder.name} as splits of a class, or "
                f"as folders of it without a meaning: expected SPLIT/CLASS and not CLASS/SPLIT, {table}"
            )
    likely = [folder.name for folder in inside if split_words(text_of(folder.name))]
    nested = [name for name in likely if inside[walk.root / name].folders]
    several = len({split for name in likely for split in split_words(name)}) > 1
    if several and (len(nested) > 1 or len(likely) == len(inside)):
        raise UserError(
            f"data={walk.root}: can be read in two ways: {few(likely)} as splits, or as classes: expected folders that "
            f"are called train, val and test where they are splits, {table}"
        )


def _has_videos(folder: Path) -> bool:
    return next(find_videos(folder), None) is not None
