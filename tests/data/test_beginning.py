import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.data import Beginning, Sample, VideoDataset, split_rows
from vjepa_mlflow.model import Checkpoint

NAMES = ("b/1.mp4", "new\nline.mp4", 'comma, "quote".mp4', "\udcff.mp4")
SAMPLES = [Sample(Path(name), name, "ab"[index % 2], digest=str(index)) for index, name in enumerate(NAMES)]
PARAMS = {"drawn_splits": "val,test", "checkpoint_revision": "sha256:1", "training_order": "sha256", "model": "tiny"}


def begun(**params: str) -> Beginning:
    """What a run has logged that began with these samples."""
    splits = {"train": SAMPLES[2:][::-1], "val": SAMPLES[1:2], "test": SAMPLES[:1]}
    text = io.StringIO()
    writer = csv.DictWriter(text, ("path", "label", "split", "group", "sha256"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(split_rows(VideoDataset(["b", "a"], splits, ["val", "test"])))
    labels = json.dumps({"0": "b", "1": "a"}).encode()
    return Beginning.read("run", text.getvalue().encode(errors="surrogateescape"), labels, {**PARAMS, **params})


def test_the_same_videos_make_the_same_sets_in_the_same_order() -> None:
    dataset = begun().dataset("d", SAMPLES)
    assert dataset.labels == ["b", "a"]
    assert dataset.drawn == ["val", "test"]
    assert {split: [one.name for one in samples] for split, samples in dataset.splits.items()} == {
        "train": [NAMES[3], NAMES[2]],
        "val": [NAMES[1]],
        "test": [NAMES[0]],
    }


def test_a_run_of_an_older_version_keeps_its_order() -> None:
    assert begun(split_seed="3", seed="1").dataset("d", SAMPLES).seed == 3
    older = {name: value for name, value in PARAMS.items() if name != "training_order"}
    assert Beginning.read("run", b"path,label,split,group,sha256\n", b"{}", older).order == "numpy"


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([replace(SAMPLES[0], digest="9"), *SAMPLES[1:]], "b/1.mp4 became another video, or of another class,"),
        ([replace(SAMPLES[0], label="b"), *SAMPLES[1:]], "b/1.mp4 became another video, or of another class,"),
        (SAMPLES[1:], "b/1.mp4 has gone"),
        ([*SAMPLES, replace(SAMPLES[0], name="z.mp4")], "z.mp4 was added"),
    ],
)
def test_other_videos_are_refused(samples: list[Sample], reason: str) -> None:
    with pytest.raises(UserError, match=rf"data=d: {reason} since run run began: expected the same files"):
        begun().dataset("d", samples)


def test_other_weights_are_refused() -> None:
    same, other = (Checkpoint("folder", Path(), revision) for revision in ("sha256:1", "sha256:2"))
    begun(model="folder").check_revision("folder", same)
    begun(model="folder").check_revision("another", other)  # which a sweep tries
    with pytest.raises(
        UserError, match=r"model=folder: its weights \(sha256:2\) are not those that run run began with"
    ):
        begun(model="folder").check_revision("folder", other)


@pytest.mark.parametrize(("text", "labels"), [(b"path\nx\n", b"{}"), (b"", b"nonsense"), (b"", b'{"1": "a"}')])
def test_what_was_not_logged_so_is_refused(text: bytes, labels: bytes) -> None:
    with pytest.raises(UserError, match=r"run run: its split.csv and labels.json cannot be read"):
        Beginning.read("run", text, labels, PARAMS)
