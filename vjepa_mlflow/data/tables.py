"""CSV and TSV tables with a header, and the headerless lists of the video datasets."""

import csv
import re
from pathlib import Path

from vjepa_mlflow.data.samples import SPLIT_NAMES, Sample
from vjepa_mlflow.errors import UserError

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
COLUMNS = ("path", "label", "split", "group")
HEADER = "path,label[,split][,group]"
_LIST_LINE = re.compile(r"^(?P<path>.*\S)[\s,]+(?P<label>[^\s,]+)$")
_SHOWN = 3
_Row = tuple[int, dict[str, str]]
"""A line's number and its cells by column."""


def find_split_lists(folder: Path) -> dict[Path, str]:
    """Table files of a folder whose names tell their split, such as `kinetics400_val_list_videos.txt`."""
    lists = {}
    for path in sorted(folder.iterdir()):
        words = re.split(r"[^a-z]+", path.stem.lower())
        splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
        if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES and len(splits) == 1:
            lists[path] = splits.pop()
    return lists


def read_table(table: Path, *, split: str | None = None) -> list[Sample]:
    """Reads a table with the header `path,label[,split][,group]`, or a list of `path label` lines without one.

    Paths are relative to the table.

    Args:
        table: the file; tabs separate columns in `.tsv`, commas in others, any of these or blanks in lists.
        split: the split of all rows, for a file that is one split's list.

    Raises:
        UserError: a column or a file is missing, or a row cannot be understood; the message names the line.
    """
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"data={table}: expected a text table encoded in UTF-8") from None
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    header = [name.strip().lower() for name in lines[0].split(delimiter)] if lines else []
    if set(header) & set(COLUMNS):
        rows = _rows_with_header(table, lines, header, delimiter)
    else:
        rows = _rows_of_list(table, lines)
    samples = [_sample(table, number, row, split) for number, row in rows]
    _check_files(table, rows, samples)
    return samples


def _rows_with_header(table: Path, lines: list[str], header: list[str], delimiter: str) -> list[_Row]:
    for column in ("path", "label"):
        if column not in header:
            raise UserError(f"data={table}: no column '{column}' in the header {','.join(header)}: expected {HEADER}")
    reader = csv.reader(lines, delimiter=delimiter)
    next(reader)
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise UserError(f"data={table}, line {reader.line_num}: {len(cells)} cells: expected {len(header)}")
        rows.append((reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}))
    return rows


def _rows_of_list(table: Path, lines: list[str]) -> list[_Row]:
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LIST_LINE.match(line.strip())
        if match is None:
            raise UserError(
                f"data={table}, line {number}: {line.strip()!r}: expected 'path label', or a header {HEADER}"
            )
        rows.append((number, match.groupdict()))
    return rows


def _sample(table: Path, number: int, row: dict[str, str], split: str | None) -> Sample:
    if not row["path"] or not row["label"]:
        raise UserError(f"data={table}, line {number}: expected both a path and a label")
    if "split" in row:
        split = SPLIT_NAMES.get(row["split"].lower())
        if split is None:
            raise UserError(f"data={table}, line {number}: split '{row['split']}': expected train, val or test")
    return Sample(
        path=table.parent / row["path"],
        name=row["path"],
        label=row["label"],
        split=split,
        group=row.get("group") or None,
    )


def _check_files(table: Path, rows: list[_Row], samples: list[Sample]) -> None:
    missing = [
        f"{sample.name} (line {number})"
        for (number, _), sample in zip(rows, samples, strict=True)
        if not sample.path.is_file()
    ]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise UserError(
            f"data={table}: {len(missing)} of {len(rows)} files are not there: {shown}: "
            f"expected paths relative to {table.parent}"
        )
