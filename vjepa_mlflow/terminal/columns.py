"""Tables: for a terminal, and rows of CSV files."""

import csv
import io
from collections.abc import Iterable, Sequence


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of as many cells each as lines, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def csv_row(values: Iterable[object]) -> str:
    """A row of a CSV file, ended by a line feed; a carriage return in a name stands in quotes, as a line feed does."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(values)  # it quotes what a row may end with
    return line.getvalue().removesuffix("\r\n") + "\n"
