"""CSV and TSV tables with a header, and the headerless lists of the video datasets."""

import csv
import difflib
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow.data.samples import Listing, Sample, few
from vjepa_mlflow.data.walk import VIDEO_SUFFIXES
from vjepa_mlflow.data.words import split_named, split_words
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.paths import check_local, is_file, name_of, shortened

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
COLUMNS = ("path", "label", "split", "group")
HEADER = "path,label[,split][,group]"
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}

UNUSED = "columns without a meaning here"
COMMENTS = "lines that begin with #"

_UNITS = "frames?|f|index|idx|ms|no|num|seconds?|secs?|s|times?|timestamps?|t"
_ENDS = re.compile(
    rf"({_UNITS})*((begin(ning)?|end|offset|onset|start|t0|t1)|(first|from|last|stop|to)({_UNITS}))({_UNITS})*"
)
_END_WORDS = frozenset({"begin", "end", "offset", "onset", "start"})
"""What names of columns are made of, or have in them, that say where in a video something begins or ends."""

_FLAGS = frozenset({"0", "1", "false", "n", "no", "true", "y", "yes"})

MISSING = frozenset({"#N/A", "<NA>", "?", "N/A", "NA", "NULL", "NaN", "n/a", "nan"})
"""What programs write for what is not there."""

_Row = tuple[int, dict[str, str]]
"""A line's number and its cells by column."""


def find_split_lists(files: Iterable[Path]) -> dict[Path, str]:
    """The tables whose names tell their split, such as `kinetics400_val_list_videos.txt`."""
    lists = {}
    for path in files:
        splits = split_words(path.stem)
        if path.suffix.lower() in TABLE_SUFFIXES and len(splits) == 1 and (split := splits.pop()):
            lists[path] = split
    return lists


def read_table(table: Path, *, split: str | None = None) -> Listing:
    """Reads a table with the header `path,label[,split][,group]`, or a list of `path label` lines without one.

    Paths are relative to the table. Blank lines, and lines before the header that begin with #, are passed over.

    Args:
        table: the file; commas, tabs or semicolons separate columns, whatever its suffix, in lists blanks as well.
        split: the split of all rows, for a file that is one split's list.

    Raises:
        UserError: a column or a file is missing, or a row cannot be understood; the message names the line.
    """
    text = _read_text(table)
    listing = Listing()
    header = _find_header(table, text)
    if header is None:
        rows = list(_rows_of_list(table, text, listing))
    else:
        _check_columns(table, header)
        for number, (line, _) in enumerate(_lines(text), start=1):
            if number < header.line and line.startswith("#"):
                listing.leave_out(COMMENTS, f"line {number}")
        rows = list(_rows_with_header(table, header))
        _leave_out_columns(table, header, rows, listing)
        _check_rows(table, header, rows)
    listing.samples = [_sample(table, number, row, split) for number, row in rows]
    _check_files(table, rows, listing.samples, has_header=header is not None)
    return listing


def _read_text(table: Path) -> str:
    try:
        return table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"data={table}: expected a text table encoded in UTF-8 (in Excel: CSV UTF-8)") from None
    except OSError as error:
        raise UserError(f"data={table}: cannot be read ({error.strerror}): expected a table") from error


@dataclass(frozen=True)
class _Header:
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


def _find_header(table: Path, text: str) -> _Header | None:
    """The header, if the first line that is neither blank nor a comment has one of our columns."""
    for number, (line, end) in enumerate(_lines(text), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = [_Header(_header_cells(line, delimiter), number, text[end:], delimiter) for delimiter in DELIMITERS]
        header = max(found, key=lambda one: len(set(one.names) & set(COLUMNS)))
        known = set(header.names) & set(COLUMNS)
        # A list may be of a class that is called group.
        is_row = not {"path", "label"} <= known and _file_of(table, line) is not None
        return header if known and not is_row else None
    return None


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """Lines, and where in the text the next one begins; only what ends a line everywhere ends one."""
    return ((match[1], match.end()) for match in re.finditer(r"([^\r\n]*)(\r\n|\r|\n|\Z)", text))


def _header_cells(line: str, delimiter: str) -> list[str]:
    try:
        (cells,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
    except (csv.Error, ValueError):
        return []
    return [cell.strip().casefold() for cell in cells]


def _check_columns(table: Path, header: _Header) -> None:
    """Refuses a header without our columns, or with others that might be meant for them."""
    shown = shortened(",".join(header.names))
    unknown = [name for name in header.names if name not in COLUMNS]
    for name in COLUMNS:
        if (count := header.names.count(name)) > 1:
            raise UserError(f"data={table}: {count} columns '{name}' in the header {shown}: expected one")
    stretch = [name for name in unknown if _is_end(name) or (name in ("from", "to") and {"from", "to"} <= {*unknown})]
    if stretch:
        raise UserError(
            f"data={table}: columns {', '.join(stretch)}: rows are whole videos here: expected {HEADER}; cut the parts "
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


def _rows_with_header(table: Path, header: _Header) -> Iterator[_Row]:
    # In the text as it is: a quoted cell may hold line breaks, and other characters that some call so.
    lines = io.StringIO(header.rest, newline="")
    reader = csv.reader(lines, delimiter=header.delimiter, skipinitialspace=True, strict=True)
    number = header.line
    try:
        for cells in reader:
            number, first = header.line + reader.line_num, number + 1
            if not any(cell.strip() for cell in cells):
                continue
            while len(cells) > len(header.names) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(header.names):
                raise UserError(f"data={table}, line {first}: {len(cells)} cells: expected {len(header.names)}")
            yield first, {name: cell.strip(" \t") for name, cell in zip(header.names, cells, strict=True)}
    except csv.Error as error:
        raise UserError(
            f"data={table}, line {number + 1}: {one_line(error)}: expected cells between "
            f"{DELIMITERS[header.delimiter]}, with quotes around those that hold one"
        ) from error


def _leave_out_columns(table: Path, header: _Header, rows: list[_Row], listing: Listing) -> None:
    """Says which columns are not used; refuses one that holds splits where none is called so."""
    for name in header.names:
        if name in COLUMNS or not any(row[name] for _, row in rows):
            continue
        values = {row[name].casefold() for _, row in rows} - {""}
        said = {split for value in values for split in split_words(value)}
        holds_splits = len(said) > 1 or ("train" in said and all(map(split_words, values)))
        is_flag = bool(split_words(name)) and values <= _FLAGS
        if "split" not in header.names and (holds_splits or is_flag):
            raise UserError(
                f"data={table}: column '{name}' holds {few(sorted(values))}: expected the name 'split' and train, val "
                f"and test if these are the splits, or another name"
            )
        listing.leave_out(UNUSED, name or "(one without a name)")


def _check_rows(table: Path, header: _Header, rows: list[_Row]) -> None:
    """Refuses rows of one file that differ in what is not used: they are of different parts of it."""
    unused = [name for name in header.names if name and name not in (*COLUMNS, "id", "index")]  # which may just count
    first: dict[str, _Row] = {}
    for number, row in rows:
        before, known = first.setdefault(os.path.normpath(row["path"]), (number, row))
        for name in unused:
            if known[name] != row[name]:
                raise UserError(
                    f"data={table}, lines {before} and {number}: {shortened(row['path'])} with {name} {known[name]} "
                    f"and {row[name]}: rows are whole videos here: expected each once; cut parts into files"
                )


def is_list(table: Path) -> bool:
    """Whether a file is a table of videos, be they there or not: it has our header, or lines that name videos."""
    try:
        text = _read_text(table)
    except UserError:
        return False
    header = _find_header(table, text)
    if header is not None:
        return {"path", "label"} <= set(header.names)
    return any(_names_video(line) or _file_of(table, line) for line, _ in _lines(text))


def _names_video(line: str) -> bool:
    paths = [line.strip(), *(path for path, _ in _pairs(line))]
    return any(Path(path).suffix.lower() in VIDEO_SUFFIXES for path in paths)


def _rows_of_list(table: Path, text: str, listing: Listing) -> Iterator[_Row]:
    for number, (line, _) in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        pairs = list(_pairs(line))
        found = _file_of(table, line)
        if found is None and line.startswith("#"):
            listing.leave_out(COMMENTS, f"line {number}")
            continue
        if not pairs:
            raise UserError(
                f"data={table}, line {number}: {shortened(line.strip())!r}: expected 'path label', or a header {HEADER}"
            )
        file, label = found or pairs[0]
        yield number, {"path": file, "label": label}


def _file_of(table: Path, line: str) -> tuple[str, str] | None:
    """The way to read a list's line by which its file is there, if there is one."""
    return next((pair for pair in _pairs(line) if is_file(table.parent / name_of(pair[0]))), None)


def _pairs(line: str) -> Iterator[tuple[str, str]]:
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


def _sample(table: Path, number: int, row: dict[str, str], split: str | None) -> Sample:
    place = f"data={table}, line {number}"
    if not row["path"] or not row["label"]:
        raise UserError(f"{place}: expected both a path and a label")
    if row["label"] in MISSING:
        raise UserError(f"{place}: label '{row['label']}', which programs write where there is none: expected a name")
    check_local(f"{place}: path", row["path"])
    if "split" in row:
        named = split_named(row["split"])
        if named is None or split not in (None, named):
            raise UserError(f"{place}: split '{row['split']}': expected {split or 'train, val or test'}")
        split = named
    return Sample(
        path=table.parent / name_of(row["path"]),
        name=row["path"],
        label=row["label"],
        split=split,
        group=None if row.get("group", "") in MISSING | {""} else row["group"],
    )


def _check_files(table: Path, rows: list[_Row], samples: list[Sample], *, has_header: bool) -> None:
    missing = [
        (number, f"{shortened(sample.name)} (line {number})")
        for (number, _), sample in zip(rows, samples, strict=True)
        if not is_file(sample.path)
    ]
    if missing:
        first = missing[0][0]
        is_first = not has_header and len(missing) == 1 and first == rows[0][0]
        header = f"; line {first} may be a header: expected {HEADER}" if is_first else ""
        windows = r"; \ does not separate folders here" if all("\\" in name for _, name in missing) else ""
        raise UserError(
            f"data={table}: {len(missing)} of {len(rows)} files are not there: {few([name for _, name in missing])}: "
            f"expected paths relative to {table.parent}{header}{windows}"
        )
