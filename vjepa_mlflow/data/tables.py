"""CSV and TSV tables with a header, and the headerless lists of the video datasets."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from vjepa_mlflow.data.data_source import DataSource
from vjepa_mlflow.data.list_lines import DELIMITERS, names_video, pair_with_file, pairs
from vjepa_mlflow.data.samples import Listing, Sample, few
from vjepa_mlflow.data.table_headers import COLUMNS, HEADER, Header, check_columns, find_header, lines
from vjepa_mlflow.data.words import split_named, split_words
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.paths import check_local, is_file, name_of, shortened

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})

UNUSED = "columns without a meaning here"
COMMENTS = "lines that begin with #"

_FLAGS = frozenset({"0", "1", "false", "n", "no", "true", "y", "yes"})

MISSING = frozenset({"#N/A", "<NA>", "?", "N/A", "NA", "NULL", "NaN", "n/a", "nan"})
"""What programs write for what is not there."""

_Row = tuple[int, dict[str, str]]
"""A line's number and its cells by column."""


class Table(DataSource):
    """A table of videos with their labels, or a list."""

    @classmethod
    def at(cls, place: Path) -> "Table | None":
        """Any file: of those that are no table `read` says so."""
        return cls(place) if is_file(place) else None

    def read(self) -> Listing:
        """See `read_table`."""
        if self.place.suffix.lower() not in TABLE_SUFFIXES:
            raise UserError(
                f"data={self.place}: expected a folder, or a table ending in {', '.join(sorted(TABLE_SUFFIXES))}"
            )
        return read_table(self.place)


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
    header = find_header(table, text)
    if header is None:
        rows = list(_rows_of_list(table, text, listing))
    else:
        check_columns(table, header)
        for number, (line, _) in enumerate(lines(text), start=1):
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


def _rows_with_header(table: Path, header: Header) -> Iterator[_Row]:
    # In the text as it is: a quoted cell may hold line breaks, and other characters that some call so.
    rest = io.StringIO(header.rest, newline="")
    reader = csv.reader(rest, delimiter=header.delimiter, skipinitialspace=True, strict=True)
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


def _leave_out_columns(table: Path, header: Header, rows: list[_Row], listing: Listing) -> None:
    """Says which columns are not used; refuses one that holds splits where none is called so."""
    for name in header.names:
        if name in COLUMNS or not any(row[name] for _, row in rows):
            continue
        values = {row[name].casefold() for _, row in rows} - {""}
        splits = {split for value in values for split in split_words(value)}
        holds_splits = len(splits) > 1 or ("train" in splits and all(map(split_words, values)))
        is_flag = bool(split_words(name)) and values <= _FLAGS
        if "split" not in header.names and (holds_splits or is_flag):
            raise UserError(
                f"data={table}: column '{name}' holds {few(sorted(values))}: expected the name 'split' and train, val "
                f"and test if these are the splits, or another name"
            )
        listing.leave_out(UNUSED, name or "(one without a name)")


def _check_rows(table: Path, header: Header, rows: list[_Row]) -> None:
    """Refuses rows of one file that differ in what is not used: they are of different parts of it."""
    unused = [name for name in header.names if name and name not in (*COLUMNS, "id", "index")]  # which may just count
    first_rows: dict[str, _Row] = {}
    for number, row in rows:
        first_number, first = first_rows.setdefault(os.path.normpath(row["path"]), (number, row))
        for name in unused:
            if first[name] != row[name]:
                raise UserError(
                    f"data={table}, lines {first_number} and {number}: {shortened(row['path'])} with {name} "
                    f"{first[name]} and {row[name]}: rows are whole videos here: expected each once; cut parts into "
                    f"files"
                )


def is_list(table: Path) -> bool:
    """Whether a file is a table of videos, be they there or not: it has our header, or lines that name videos."""
    try:
        text = _read_text(table)
    except UserError:
        return False
    header = find_header(table, text)
    if header is not None:
        return {"path", "label"} <= set(header.names)
    return any(names_video(line) or pair_with_file(table, line) for line, _ in lines(text))


def _rows_of_list(table: Path, text: str, listing: Listing) -> Iterator[_Row]:
    for number, (line, _) in enumerate(lines(text), start=1):
        if not line.strip():
            continue
        possible = list(pairs(line))
        there = pair_with_file(table, line)
        if there is None and line.startswith("#"):
            listing.leave_out(COMMENTS, f"line {number}")
            continue
        if not possible:
            raise UserError(
                f"data={table}, line {number}: {shortened(line.strip())!r}: expected 'path label', or a header {HEADER}"
            )
        file, label = there or possible[0]
        yield number, {"path": file, "label": label}


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
