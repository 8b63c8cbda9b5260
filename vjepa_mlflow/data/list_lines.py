"""Lines of the headerless lists that video datasets have: a path and a label, between any of several delimiters."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from vjepa_mlflow.data.walk import VIDEO_SUFFIXES
from vjepa_mlflow.files.paths import is_file, name_of

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}


def names_video(line: str) -> bool:
    """Whether a line holds a name that a video may have, be it there or not."""
    paths = [line.strip(), *(path for path, _ in pairs(line))]
    return any(Path(path).suffix.lower() in VIDEO_SUFFIXES for path in paths)


def pair_with_file(table: Path, line: str) -> tuple[str, str] | None:
    """The way to read a list's line by which its file is there, if there is one."""
    return next((pair for pair in pairs(line) if is_file(table.parent / name_of(pair[0]))), None)


def pairs(line: str) -> Iterator[tuple[str, str]]:
    """The ways to read a list's line as a path and a label, the likeliest first."""
    match = re.fullmatch(r"[ \t]*(?P<path>.*[^ \t,;])[ \t,;]+(?P<label>[^ \t,;]+)[ \t]*", line)
    if match:
        yield match["path"], match["label"]
    for delimiter in DELIMITERS:
        try:
            (cells,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
        except (csv.Error, ValueError):
            continue
        if len(cells) == 2 and all(cells):
            yield cells[0].strip(" \t"), cells[1].strip(" \t")
