from pathlib import Path

import pytest

from vjepa_mlflow.data.list_lines import names_video, pair_with_file, pairs


@pytest.mark.parametrize(
    ("line", "likeliest"),
    [
        ("a.mp4 jump", ("a.mp4", "jump")),
        ("a b.mp4 high jump", ("a b.mp4 high", "jump")),
        ("a.mp4,\thigh", ("a.mp4", "high")),
        ("  a.mp4 ; jump  ", ("a.mp4", "jump")),
        ('"a,b.mp4",jump', ('"a,b.mp4"', "jump")),
    ],
)
def test_the_likeliest_reading_is_by_the_last_delimiter(line: str, likeliest: tuple[str, str]) -> None:
    assert next(pairs(line)) == likeliest


def test_quotes_and_labels_of_several_words_are_other_readings() -> None:
    assert ("a,b.mp4", "jump") in pairs('"a,b.mp4",jump')
    assert ("a.mp4", "high jump") in pairs("a.mp4,high jump")
    assert list(pairs("alone")) == []


def test_the_reading_is_taken_whose_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert pair_with_file(tmp_path / "list.txt", "a.mp4,high jump") == ("a.mp4", "high jump")
    assert pair_with_file(tmp_path / "list.txt", "b.mp4,high jump") is None


@pytest.mark.parametrize(("line", "expected"), [("a.MP4 1", True), ("a.mkv", True), ("a.txt 1", False), ("", False)])
def test_a_line_that_names_a_video_is_known_by_its_suffix(line: str, expected: bool) -> None:
    assert names_video(line) is expected
