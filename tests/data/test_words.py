from pathlib import Path

import pytest

from vjepa_mlflow.data.samples import Sample
from vjepa_mlflow.data.words import check_labels, split_named, split_words, spoken
from vjepa_mlflow.errors import UserError


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), (" Validation ", "val"), ("TESTING", "test"), ("trainset", None), ("dev", None)],
)
def test_a_name_is_that_of_a_split_or_of_none(name: str, split: str | None) -> None:
    assert split_named(name) == split


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("kinetics400_val_list_videos", {"val"}),
        ("trainlist01", {"train"}),
        ("testsplits", {"test"}),
        ("train-vs-test", {"train", "test"}),
        ("hmdb_dev", {""}),
        ("trainval", {""}),
        ("contest", set()),
        ("training_eval", {"train", ""}),
    ],
)
def test_words_of_a_longer_name_say_splits(name: str, splits: set[str]) -> None:
    assert split_words(name) == splits


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("High Jump", "high_jump"),
        ("high-jump", "highjump"),
        ("007", "7"),
        ("class 01", "class1"),
        ("1.0", "1"),
        ("+3", "3"),
        ("caf\u00e9", "cafe\u0301"),
        ("a\u200bb", "ab"),
        ("Straße", "STRASSE"),
    ],
)
def test_what_is_read_out_alike_is_one_name(one: str, other: str) -> None:
    assert spoken(one) == spoken(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1 2", "12"), ("-1", "1"), ("0.5", "5"), ("1.05", "1.5"), ("a", "b"), ("10", "1")]
)
def test_what_is_read_out_otherwise_is_another(one: str, other: str) -> None:
    assert spoken(one) != spoken(other)


def samples(*labels: str) -> list[Sample]:
    return [Sample(Path(f"/{number}.mp4"), f"{number}.mp4", label) for number, label in enumerate(labels)]


def test_classes_of_one_name_in_two_spellings_are_refused() -> None:
    check_labels("clips", samples("jump", "jump", "run"))
    with pytest.raises(UserError, match=r"^data=clips: classes 'Jump' \(0\.mp4\) and 'jump' \(2\.mp4\) are one name"):
        check_labels("clips", samples("Jump", "run", "jump"))


@pytest.mark.parametrize("label", ["a\nb", "a\x1b[2J", "a\u2028b", "a\udcff"])
def test_a_class_is_a_line_of_text(label: str) -> None:
    with pytest.raises(UserError, match=r"^data=clips: class '.*' \(0\.mp4\): expected a name on one line"):
        check_labels("clips", samples(label, "b"))
