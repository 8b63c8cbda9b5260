"""Folders searched for videos: every real folder and file once, and nothing passed over without a word."""

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vjepa_mlflow.data.samples import Listing, Sample
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import is_file, is_link, is_there, shortened, text_of

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)

SYSTEM_NAMES = frozenset({"@eaDir", "__MACOSX", "Thumbs.db", "desktop.ini"})
"""What systems and archives leave in folders, and hide."""

HIDDEN = "hidden files and folders"
NO_VIDEO = "files without a video's suffix"
NO_FILE = "pipes, sockets and devices"
NOWHERE = "links that lead nowhere"
SEEN = "folders that are read already by another name"


class Entries(NamedTuple):
    """What lies in a folder, but for what is hidden; sorted by name."""

    folders: list[Path]
    files: list[Path]


@dataclass(frozen=True)
class Walk:
    """A way through everything below a folder, which goes into every real folder once.

    Attributes:
        root: names are relative to it.
        listing: is told what is left out.
        links: to folders, that were met and not followed yet: they wait until all real folders were gone through.
        seen: the real folders that were gone into, and the name that each had then.
        looked: what was found in folders, so that none is asked for it twice.
    """

    root: Path
    listing: Listing
    links: list[Path] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    looked: dict[Path, Entries] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        """A path as the data names it."""
        return text_of(path.relative_to(self.root).as_posix())

    def entries(self, folder: Path) -> Entries:
        """What lies in a folder.

        Raises:
            UserError: it may not be read.
        """
        if folder not in self.looked:
            self.looked[folder] = self._look(folder)
        return self.looked[folder]

    def _look(self, folder: Path) -> Entries:
        try:
            with os.scandir(folder) as unordered:
                entries = sorted(unordered, key=lambda entry: text_of(entry.name))
        except OSError as error:
            raise UserError(
                f"{shortened(str(folder))}: this folder cannot be read ({error.strerror}): expected that all below "
                f"{shortened(str(self.root))} can be"
            ) from error
        folders: list[Path] = []
        files: list[Path] = []
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name in SYSTEM_NAMES:
                self.listing.leave_out(HIDDEN, self.name(path))
            else:
                (folders if _is_folder(entry) else files).append(path)
        return Entries(folders, files)

    def videos(self, folder: Path) -> Iterator[Path]:
        """The video files anywhere below a folder, known by their suffix, but for those behind links to folders."""
        waiting = [folder]  # and no recursion: folders may lie deeper than Python calls
        while waiting:
            folder = waiting.pop()
            first = self.seen.setdefault(os.path.realpath(folder), self.name(folder))
            if first != self.name(folder):  # a link led there before
                self.leave_out_seen(folder, first)
                continue
            folders, files = self.entries(folder)
            yield from self.videos_among(files)
            self.links.extend(below for below in folders if is_link(below))
            waiting.extend(below for below in reversed(folders) if not is_link(below))

    def videos_among(self, files: list[Path]) -> Iterator[Path]:
        for path in files:
            if is_link(path) and not is_there(path) and path.suffix.lower() not in VIDEO_SUFFIXES:
                self.listing.leave_out(NOWHERE, self.name(path))
            elif path.suffix.lower() not in VIDEO_SUFFIXES:
                self.listing.leave_out(NO_VIDEO, self.name(path))
            elif is_there(path) and not is_file(path):
                self.listing.leave_out(NO_FILE, self.name(path))
            else:  # a link that leads nowhere too: whoever opens it will tell
                yield path

    def leave_out_seen(self, link: Path, first: str) -> None:
        """Takes in that a link leads to a folder that was gone into by another name."""
        self.listing.leave_out(SEEN, f"{self.name(link)} (leads to {'a folder above' if first == '.' else first})")

    def known_as(self, folder: Path) -> str | None:
        """The name that a folder was gone into by, or "." where the root is in it; None for one that is new."""
        real, root = os.path.realpath(folder), os.path.realpath(self.root)
        return self.seen.get(real, "." if os.path.commonpath([real, root]) == real else None)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def find_videos(folder: Path, listing: Listing | None = None) -> Iterator[Path]:
    """Video files anywhere below a folder, each real folder's once, in a fixed order; hidden ones are passed over.

    Args:
        folder: to search.
        listing: is told what is left out.

    Raises:
        UserError: a folder may not be read.
    """
    walk = Walk(folder, Listing() if listing is None else listing)
    yield from walk.videos(folder)
    for link in walk.links:  # which may become more
        first = walk.known_as(link)
        if first is None:
            yield from walk.videos(link)
        else:
            walk.leave_out_seen(link, first)


def real_paths(samples: Iterable[Sample]) -> Iterator[str]:
    """Where the files are: `os.path.realpath`, which looks at each folder on the way, but for each folder once."""
    real_folder = functools.cache(os.path.realpath)
    for path in (sample.path for sample in samples):
        yield os.path.realpath(path) if is_link(path) else f"{real_folder(path.parent)}/{path.name}"


def in_order(name: str) -> tuple[tuple[bool, str], ...]:
    """What sorts names of files: those in a folder before those below it, then by name."""
    *folders, file = name.split("/")
    return (*((True, folder) for folder in folders), (False, file))
