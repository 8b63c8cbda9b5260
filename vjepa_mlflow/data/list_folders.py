"""Folders of videos with a list for each split beside them, as the video datasets have them."""

import os
from collections.abc import Iterable
from pathlib import Path

from vjepa_mlflow.data.data_source import DataSource
from vjepa_mlflow.data.samples import Listing, few
from vjepa_mlflow.data.tables import TABLE_SUFFIXES, is_list, read_table
from vjepa_mlflow.data.walk import Walk, find_videos, real_paths
from vjepa_mlflow.data.words import split_words
from vjepa_mlflow.errors import UserError


class FolderWithLists(DataSource):
    """A folder whose lists tell splits and labels.

    Args:
        place: the folder.
        lists: the tables, with the split that the name of each says.
    """

    def __init__(self, place: Path, lists: dict[Path, str]):
        super().__init__(place)
        self._lists = lists

    @classmethod
    def at(cls, place: Path) -> "FolderWithLists | None":
        top = Walk(place, Listing()).entries(place)
        named = find_split_lists(top.files)
        lists = {table: split for table, split in named.items() if is_list(table)}
        if not lists and (len({*named.values()}) > 1 or not any(next(find_videos(one), None) for one in top.folders)):
            lists = named  # too much is said by their names: whoever reads them will tell what is wrong with them
        return cls(place, lists) if lists else None

    def read(self) -> Listing:
        """Reads the lists, if they name all videos that lie in the class folders."""
        listing = self._read_lists()
        names = few([path.name for path in self._lists])
        listed = {os.path.realpath(path) for path in [*self._lists, *(sample.path for sample in listing.samples)]}
        beside = Listing()
        others = [path for path in find_videos(self.place, beside) if os.path.realpath(path) not in listed]
        if len({path.relative_to(self.place).parts[0] for path in others}) > 1:
            raise UserError(
                f"data={self.place}: can be read in two ways: by {names}, without {len(others)} videos such as "
                f"{others[0].relative_to(self.place)}, or by its folders: expected either; move the lists or the "
                f"folders elsewhere, or give a table path,label[,split]"
            )
        for path in others:
            listing.leave_out("videos in no list", str(path.relative_to(self.place)))
        for reason, left_out in beside.left_out.items():
            for name in left_out:
                if os.path.realpath(self.place / name) not in listed:
                    listing.leave_out(reason, name)
        listing.notes.append(f"Read by its lists {names}")
        return listing

    def _read_lists(self) -> Listing:
        """All lists, of which no two may be of one split and name one video."""
        listing = Listing()
        list_of: dict[tuple[str, str], Path] = {}
        for table, split in self._lists.items():
            part = read_table(table, split=split)
            for sample, real in zip(part.samples, real_paths(part.samples), strict=True):
                other = list_of.setdefault((split, real), table)
                if other != table:
                    raise UserError(
                        f"data={self.place}: {other.name} and {table.name} are both lists of {split} and name "
                        f"{sample.name}: expected one of them"
                    )
            listing.extend(part)
        return listing


def find_split_lists(files: Iterable[Path]) -> dict[Path, str]:
    """The tables whose names tell their split, such as `kinetics400_val_list_videos.txt`."""
    lists = {}
    for path in files:
        splits = split_words(path.stem)
        if path.suffix.lower() in TABLE_SUFFIXES and len(splits) == 1 and (split := splits.pop()):
            lists[path] = split
    return lists
