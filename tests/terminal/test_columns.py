import csv
import io

import pytest

from vjepa_mlflow.terminal.columns import align, csv_row


def test_columns_are_as_wide_as_their_widest_cells_and_lines_end_without_blanks() -> None:
    assert align([["class", "train", "val"], ["a", "10", ""], ["longer", "", "3"]]) == [
        "class   train  val",
        "a       10",
        "longer         3",
    ]
    assert align([]) == []


@pytest.mark.parametrize("value", ["plain", "a,b", 'a "b"', "a\nb", "a\rb", "a\r\nb", "ends\r", "", "ü"])
def test_a_row_comes_back_as_it_was_and_ends_with_a_line_feed(value: str) -> None:
    row = csv_row([value, 1])
    assert row.endswith("1\n")
    assert not row.endswith("\r\n")
    assert list(csv.reader(io.StringIO(row, newline=""))) == [[value, "1"]]
