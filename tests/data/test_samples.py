from dataclasses import replace
from pathlib import Path

import pytest

from vjepa_mlflow.data.samples import (
    Listing,
    Sample,
    describe_contents,
    describe_samples,
    few,
    label_ids,
    ordered,
    sorted_labels,
)

ONE = Sample(Path("/clips/a/1.mp4"), "a/1.mp4", "a", "train", digest="1" * 64)
OTHER = Sample(Path("/clips/b/2.mp4"), "b/2.mp4", "b", group="g", digest="2" * 64)


def test_a_listing_says_what_is_left_out_of_all_its_parts() -> None:
    listing, part = Listing([ONE], notes=["first"]), Listing([OTHER], notes=["second"])
    listing.leave_out("hidden", ".a")
    for name in (".b", ".c", ".d"):
        part.leave_out("hidden", name)
    part.leave_out("loose", "x.mp4")
    listing.extend(part)
    assert (listing.samples, listing.notes) == ([ONE, OTHER], ["first", "second"])
    assert listing.describe_left_out() == ["hidden (4): .a, .b, .c, ...", "loose (1): x.mp4"]
    assert listing.describe_left_out(shown=1) == ["hidden (4): .a, ...", "loose (1): x.mp4"]
    assert few(["a", "b"], shown=2) == "a, b"


def test_a_description_depends_on_neither_order_nor_place() -> None:
    moved = replace(ONE, path=Path("/elsewhere/1.mp4"))
    assert describe_samples([ONE, OTHER]) == describe_samples([OTHER, moved])
    assert describe_contents([ONE, OTHER]) == describe_contents([OTHER, replace(moved, name="c.mp4", split="val")])
    assert describe_samples([ONE]).startswith("1 videos (")


@pytest.mark.parametrize("change", [{"name": "c"}, {"label": "c"}, {"split": "val"}, {"group": "c"}])
def test_what_the_data_says_of_a_video_is_in_its_description(change: dict[str, str]) -> None:
    assert describe_samples([ONE]) != describe_samples([replace(ONE, **change)])


@pytest.mark.parametrize("change", [{"label": "c"}, {"digest": "3" * 64}])
def test_contents_and_labels_are_in_theirs(change: dict[str, str]) -> None:
    assert describe_contents([ONE]) != describe_contents([replace(ONE, **change)])


def test_classes_are_ordered_by_number_where_all_are_numbers() -> None:
    assert ordered({"10", "9", "01", "1"}) == ["01", "1", "9", "10"]
    assert ordered({"10", "9", "a"}) == ["10", "9", "a"]
    assert sorted_labels([OTHER, ONE, OTHER]) == ["a", "b"]
    assert label_ids([OTHER, ONE], ["a", "b"]) == [1, 0]
