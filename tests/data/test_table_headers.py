from pathlib import Path

import pytest

from vjepa_mlflow.data.table_headers import check_columns, find_header, lines
from vjepa_mlflow.errors import UserError

TABLE = Path("/clips/videos.csv")


def test_a_header_is_the_first_line_that_is_no_comment() -> None:
    header = find_header(TABLE, "# made by hand\n\nPath;Label; group\na.mp4;a;g\n")
    assert header is not None
    assert (header.names, header.line, header.rest, header.delimiter) == (
        ["path", "label", "group"],
        3,
        "a.mp4;a;g\n",
        ";",
    )
    check_columns(TABLE, header)


def test_a_row_of_a_list_is_no_header_also_of_a_class_that_is_called_as_a_column(tmp_path: Path) -> None:
    assert find_header(TABLE, "a.mp4 a\n") is None
    (tmp_path / "a.mp4").touch()
    assert find_header(tmp_path / "list.txt", "a.mp4,group\n") is None
    assert find_header(tmp_path / "list.txt", "b.mp4,group\n") is not None
    assert find_header(TABLE, "") is None


def test_only_what_ends_a_line_everywhere_ends_one() -> None:
    text = "a\u2028b\x0c\r\nc\rd\n"
    assert [line for line, _ in lines(text)] == ["a\u2028b\x0c", "c", "d", ""]
    assert [text[end:] for _, end in lines(text)] == ["c\rd\n", "d\n", "", ""]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("path,label,label", "2 columns 'label' in the header path,label,label: expected one"),
        ("path,label,start_time", "columns start_time: rows are whole videos here"),
        ("path,label,t0", "columns t0: rows are whole videos"),
        ("path,label,from,to", "columns from, to: rows are whole videos"),
        ("path,class", "no column 'label' in the header path,class: expected path,label"),
        ("path,label,splits", "column 'splits' is none of .* expected 'split' if that is meant"),
    ],
)
def test_what_is_refused_of_columns(header: str, reason: str) -> None:
    read = find_header(TABLE, header)
    assert read is not None
    with pytest.raises(UserError, match=rf"^data={TABLE}: {reason}"):
        check_columns(TABLE, read)


@pytest.mark.parametrize("header", ["path,label,from", "path,label,weekend", "path,label,fps"])
def test_other_columns_are_let_pass(header: str) -> None:
    read = find_header(TABLE, header)
    assert read is not None
    check_columns(TABLE, read)
