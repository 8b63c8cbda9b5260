"""The first row of a table: which columns it has, and what is refused of them."""

import csv
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow.data.list_lines import DELIMITERS, pair_with_file
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import shortened

COLUMNS = ("path", "label", "split", "group")
HEADER = "path,label[,split][,group]"

_UNITS = "frames?|f|index|idx|ms|no|num|seconds?|secs?|s|times?|timestamps?|t"
_ENDS = re.compile(
    rf"({_UNITS})*((begin(ning)?|end|offset|onset|start|t0|t1)|(first|from|last|stop|to)({_UNITS}))({_UNITS})*"
)
_END_WORDS = frozenset({"begin", "end", "offset", "onset", "start"})
"""What names of columns are made of, or have in them, that say where in a video something begins or ends."""


@dataclass(frozen=True)
class Header:
    """A table's first row.

    Attributes:
        names: of the columns, in small letters.
        line: where it stands, counted from 1.
        rest: the text after it.
        delimiter: between columns.
    """

    names: list[str]
    line: int
    rest: str
    delimiter: str


def find_header(table: Path, text: str) -> Header | None:
    """The header, if the first line that is neither blank nor a comment has one of our columns."""
    for number, (line, end) in enumerate(lines(text), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        readings = [Header(_header_cells(line, delimiter), number, text[end:], delimiter) for delimiter in DELIMITERS]
        header = max(readings, key=lambda reading: len(set(reading.names) & set(COLUMNS)))
        columns = set(header.names) & set(COLUMNS)
        # A list may be of a class that is called group.
        is_row = not {"path", "label"} <= columns and pair_with_file(table, line) is not None
        return header if columns and not is_row else None
    return None


def lines(text: str) -> Iterator[tuple[str, int]]:
    """Lines, and where in the text the next one begins; only what ends a line everywhere ends one."""
    return ((match[1], match.end()) for match in re.finditer(r"([^\r\n]*)(\r\n|\r|\n|\Z)", text))


def _header_cells(line: str, delimiter: str) -> list[str]:
    try:
        (cells,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
    except (csv.Error, ValueError):
        return []
    return [cell.strip().casefold() for cell in cells]


def check_columns(table: Path, header: Header) -> None:
    """Refuses a header without our columns, or with others that might be meant for them.

    Raises:
        UserError: names the column.
    """
    shown = shortened(",".join(header.names))
    unknown = [name for name in header.names if name not in COLUMNS]
    for name in COLUMNS:
        if (count := header.names.count(name)) > 1:
            raise UserError(f"data={table}: {count} columns '{name}' in the header {shown}: expected one")
    ends = [name for name in unknown if _is_end(name) or (name in ("from", "to") and {"from", "to"} <= {*unknown})]
    if ends:
        raise UserError(
            f"data={table}: columns {', '.join(ends)}: rows are whole videos here: expected {HEADER}; cut the parts "
            f"into files of their own"
        )
    for name in ("path", "label"):
        if name not in header.names:
            raise UserError(f"data={table}: no column '{name}' in the header {shown}: expected {HEADER}")
    for name in unknown:
        for meant in difflib.get_close_matches(name, [one for one in COLUMNS if one not in header.names], cutoff=0.75):
            raise UserError(
                f"data={table}: column '{name}' is none of {HEADER}: expected '{meant}' if that is meant, or a name "
                f"less like it"
            )


def _is_end(name: str) -> bool:
    words = re.split(r"[^a-z0-9]+", name)
    return bool(_ENDS.fullmatch("".join(words))) or not _END_WORDS.isdisjoint(words)
