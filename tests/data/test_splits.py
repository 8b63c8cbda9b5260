from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.data import (
    SPLITS,
    Listing,
    Sample,
    VideoDataset,
    draw_missing,
    leave_out_small,
    make_dataset,
    undivided_groups,
)
from vjepa_mlflow.data.samples import sorted_labels


def sample(number: int, label: str, **fields: str | None) -> Sample:
    name = f"{label}/{number}.mp4"
    return Sample(Path(name), name, label, **({"digest": sha256(name.encode()).hexdigest()} | fields))  # type: ignore[arg-type]


def many(per_class: int = 12, labels: str = "abc") -> list[Sample]:
    return [sample(number, label) for label in labels for number in range(per_class)]


def names(dataset: VideoDataset, split: str) -> set[str]:
    return {member.name for member in dataset.splits[split]}


def test_drawn_splits_are_stratified_and_complete() -> None:
    samples = many(per_class=20)
    dataset = make_dataset("d", samples, seed=0)
    assert dataset.labels == ["a", "b", "c"]
    assert dataset.drawn == ["val", "test"]
    assert {split: Counter(s.label for s in dataset.splits[split]) for split in SPLITS} == {
        "train": {"a": 14, "b": 14, "c": 14},
        "val": {"a": 3, "b": 3, "c": 3},
        "test": {"a": 3, "b": 3, "c": 3},
    }
    assert set.union(*(names(dataset, split) for split in SPLITS)) == {s.name for s in samples}
    assert dataset.remarks() == []


def test_a_class_too_small_for_all_splits_is_trained_on_and_told() -> None:
    rare = [sample(number, "rare", digest="dd" * 32) for number in range(5)]  # one video, five times
    dataset = make_dataset("d", many() + rare, seed=0)
    assert names(dataset, "train") >= {s.name for s in rare}
    assert dataset.remarks()[:2] == [
        "val has no video of 1 of 4 classes: rare",
        "test has no video of 1 of 4 classes: rare",
    ]


def test_shares_that_are_off_are_told() -> None:
    dataset = make_dataset("d", many(per_class=5), seed=0)
    assert [len(dataset.splits[split]) for split in SPLITS] == [9, 3, 3]
    assert [line[:18] for line in dataset.remarks()] == ["val has 20% of the", "test has 20% of th"]


def test_classes_with_few_videos_are_left_out_when_asked() -> None:
    listing = Listing([*many(), sample(1, "d"), sample(2, "d")])
    leave_out_small(listing, 3)
    assert {one.label for one in listing.samples} == {"a", "b", "c"}
    assert listing.left_out == {"classes with fewer than min_videos=3 videos": ["d (2)"]}


def test_the_order_of_the_samples_does_not_matter() -> None:
    twins = [sample(number, "a", digest="aa" * 32, group=f"g{number}") for number in range(100, 106)]
    relatives = [sample(200 + number, "a", group=f"g{100 + number}") for number in range(6)]
    samples = many() + twins + relatives
    splits = [
        {split: names(make_dataset("d", given, seed=0), split) for split in SPLITS}
        for given in (samples, samples[::-1], samples[7:] + samples[:7])
    ]
    assert splits[0] == splits[1] == splits[2]


def test_what_a_model_knows_keeps_its_split() -> None:
    """Of a model that is trained further: what it was trained on is never tested with."""
    samples = many(per_class=40)
    known = {one.digest: split for one, split in zip(samples, SPLITS * 30, strict=False)}
    dataset = make_dataset("d", samples, seed=0, role=known.get)
    for split in SPLITS:
        assert {one.name for one in samples if known.get(one.digest) == split} <= names(dataset, split)
    new = [one for one in dataset.splits["test"] if one.digest not in known]
    assert len(new) == 4  # of 30


def test_a_group_that_a_model_knows_keeps_its_split() -> None:
    samples = [sample(number, label, group=f"g{number}") for label in "ab" for number in range(20)]
    known = {samples[number].digest: "train" for number in range(10)}
    dataset = make_dataset("d", samples, seed=0, role=known.get)
    assert {one.group for one in dataset.splits["train"]} >= {f"g{number}" for number in range(10)}


def test_the_seed_decides_the_splits() -> None:
    assert make_dataset("d", many(), seed=1) == make_dataset("d", many(), seed=1)
    assert names(make_dataset("d", many(), seed=1), "test") != names(make_dataset("d", many(), seed=2), "test")


def test_groups_are_never_divided() -> None:
    samples = [sample(number, label, group=f"camera {number % 6}") for label in "ab" for number in range(24)]
    dataset = make_dataset("d", samples, seed=0)
    groups = [{member.group for member in dataset.splits[split]} for split in SPLITS]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_copies_of_a_file_stay_together_and_join_their_groups() -> None:
    twins = [sample(number, "a", digest="aa" * 32, group=f"g{number}") for number in range(100, 106)]
    relatives = [sample(200 + number, "a", group=f"g{100 + number}") for number in range(6)]
    for seed in range(8):
        dataset = make_dataset("d", many() + twins + relatives, seed=seed)
        homes = {split for split in SPLITS if names(dataset, split) & {s.name for s in twins + relatives}}
        assert len(homes) == 1


def test_only_missing_splits_are_drawn() -> None:
    given = [sample(100 + number, label, split="test") for label in "ab" for number in range(3)]
    trained = [sample(number, label, split="train") for label in "ab" for number in range(12)]
    dataset = make_dataset("d", trained + given, seed=0)
    assert dataset.drawn == ["val"]
    assert names(dataset, "test") == {s.name for s in given}


def test_numeric_labels_are_sorted_as_numbers() -> None:
    assert make_dataset("d", many(labels="9") + [sample(n, "10") for n in range(9)], seed=0).labels == ["9", "10"]


def test_numbers_that_tie_are_sorted_by_their_digits() -> None:
    labels = ["1", "001", "2", "01"]
    assert sorted_labels([sample(0, label) for label in labels]) == ["001", "01", "1", "2"]


def test_label_ids_follow_the_labels() -> None:
    dataset = make_dataset("d", many(), seed=0)
    assert [dataset.labels[index] for index in dataset.label_ids("val")] == [s.label for s in dataset.splits["val"]]


def test_a_class_that_was_only_tested_on_is_trained_on_and_an_evaluation_keeps_it() -> None:
    samples = many(per_class=40)
    known = {one.digest: "test" for one in samples if one.label == "a"}
    dataset = make_dataset("d", samples, seed=0, role=known.get)
    assert {one.label for one in dataset.splits["train"]} == {"a", "b", "c"}
    drawn = draw_missing("d", samples, ["val", "test"], seed=0, role=known.get)
    assert {one.split for one in drawn if one.label == "a"} == {"test"}


def test_groups_of_one_number_are_one() -> None:
    names = ["1", "1.0", "01", "2"]
    groups = undivided_groups([sample(number, "a", group=name) for number, name in enumerate(names)])
    assert len(set(groups)) == 2
    assert len(set(groups[:3])) == 1


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (many(per_class=1), "too few of the 3 different videos or groups are left for val and test"),
        (
            [*many(), sample(1, "d", digest=many()[0].digest)],
            "a/0.mp4 of class 'a' and d/1.mp4 of class 'd' are the same video: expected every video in one class",
        ),
        (
            # Four classes of three out of four groups: one split has two groups, and the classes of both have no third.
            [
                sample(10 * number + int(group), str(number), group=group)
                for number, groups in enumerate(["123", "124", "134", "234"])
                for group in groups
            ],
            "group",
        ),
        (
            [
                sample(1, "a", split="train"),
                sample(1, "b", split="train"),
                sample(1, "a", split="val"),
                sample(7, "a", split="test"),
            ],
            "a/1.mp4 in train and a/1.mp4 in val are the same video",
        ),
        ([sample(1, "a", split="train"), sample(2, "b", split="test")], "class 'b' is in test"),
    ],
)
def test_what_cannot_be_split_is_refused(samples: list[Sample], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        make_dataset("d", samples, seed=0)
