from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.data import SPLITS, Sample, VideoDataset, make_dataset


def sample(number: int, label: str, **fields: str | None) -> Sample:
    name = f"{label}/{number}.mp4"
    return Sample(Path(name), name, label, **({"digest": sha256(name.encode()).hexdigest()} | fields))  # type: ignore[arg-type]


def many(per_class: int = 12, labels: str = "abc") -> list[Sample]:
    return [sample(number, label) for label in labels for number in range(per_class)]


def names(dataset: VideoDataset, split: str) -> set[str]:
    return {member.name for member in dataset.splits[split]}


def test_drawn_splits_are_stratified_and_complete() -> None:
    dataset = make_dataset("d", many(), seed=0)
    assert dataset.labels == ["a", "b", "c"]
    assert dataset.drawn == ["val", "test"]
    assert {split: Counter(s.label for s in dataset.splits[split]) for split in SPLITS} == {
        "train": {"a": 8, "b": 8, "c": 8},
        "val": {"a": 2, "b": 2, "c": 2},
        "test": {"a": 2, "b": 2, "c": 2},
    }
    assert set.union(*(names(dataset, split) for split in SPLITS)) == {s.name for s in many()}


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


def test_label_ids_follow_the_labels() -> None:
    dataset = make_dataset("d", many(), seed=0)
    assert [dataset.labels[index] for index in dataset.label_ids("val")] == [s.label for s in dataset.splits["val"]]


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (many(per_class=2), "class 'a' has 2 different videos or groups: expected at least 3"),
        (many() + [sample(1, "d", digest="dd" * 32)] * 5, "class 'd' has 1 different videos"),
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
