from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.data import VideoDataset, list_samples, make_dataset
from vjepa_mlflow.features import Clip, Encoder, EvaluationSet, FeatureMemory, TrainingSet
from vjepa_mlflow.model import CENTRED, load_classifier, load_processor, locate, preprocess
from vjepa_mlflow.video import View, inspect_videos, read_clip


@pytest.fixture(scope="module")
def dataset(small_data: Path) -> VideoDataset:
    samples = list_samples(str(small_data))
    inspections = inspect_videos([sample.path for sample in samples], num_frames=16, stride=4)
    return make_dataset(
        "small",
        [replace(sample, digest=found.digest) for sample, found in zip(samples, inspections, strict=True)],
        seed=0,
    )


@pytest.fixture(scope="module")
def encoder(dataset: VideoDataset) -> Encoder:
    checkpoint = locate("tiny")
    model = load_classifier(checkpoint, dataset.labels, seed=0)
    return Encoder(model, load_processor(checkpoint), stride=4, precision="fp32")


class CountingEncoder:
    """The real encoder, with a list of what it was asked for."""

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.asked: list[Clip] = []

    def encode(self, clips):
        clips = list(clips)
        self.asked += clips
        return self.encoder.encode(clips)


def test_features_are_the_backbones_last_hidden_state(dataset: VideoDataset, encoder: Encoder) -> None:
    clips = [Clip(sample, View(position=0.2, crop_x=0.1)) for sample in dataset.splits["train"][:3]]
    features = list(encoder.encode(clips))
    assert len(features) == 3
    model = load_classifier(locate("tiny"), dataset.labels, seed=0)
    for clip, feature in zip(clips, features, strict=True):
        frames = read_clip(clip.sample.path, num_frames=16, stride=4, position=0.2)
        pixels = preprocess(load_processor(locate("tiny")), frames, view=clip.view, device=torch.device("cpu"))
        with torch.no_grad():
            expected = model.vjepa2(pixel_values_videos=pixels[None], skip_predictor=True).last_hidden_state[0]
        assert torch.allclose(feature, expected, atol=1e-5)
        assert not feature.requires_grad


def test_a_video_that_vanishes_later_is_named(tmp_path: Path, dataset: VideoDataset, encoder: Encoder) -> None:
    gone = replace(dataset.splits["train"][0], path=tmp_path / "gone.mp4")
    with pytest.raises(UserError, match=r"gone\.mp4: there is no such file"):
        list(encoder.encode([Clip(gone, CENTRED)]))


def test_memory_encodes_each_kept_clip_once(dataset: VideoDataset, encoder: Encoder) -> None:
    counting = CountingEncoder(encoder)
    memory = FeatureMemory(counting)  # type: ignore[arg-type]
    clips = [Clip(sample, CENTRED) for sample in dataset.splits["train"]]
    first = list(memory.read(clips[:4], keep=True))
    second = list(memory.read(clips[2:6], keep=True))
    assert counting.asked == clips[:6]
    assert all(torch.equal(a, b) for a, b in zip(first[2:], second[:2], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first + second[2:], encoder.encode(clips[:6]), strict=True))


def test_memory_forgets_what_is_not_to_be_kept_and_what_does_not_fit(
    dataset: VideoDataset, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [Clip(sample, CENTRED) for sample in dataset.splits["val"]]
    counting = CountingEncoder(encoder)
    memory = FeatureMemory(counting)  # type: ignore[arg-type]
    for _ in range(2):
        list(memory.read(clips, keep=False))
    assert counting.asked == clips * 2
    monkeypatch.setattr(memory, "_free", 0)
    for _ in range(2):
        list(memory.read(clips, keep=True))
    assert counting.asked == clips * 4


def test_the_same_file_twice_in_one_reading_is_no_trouble(dataset: VideoDataset, encoder: Encoder) -> None:
    memory = FeatureMemory(encoder)
    a, b = (Clip(sample, CENTRED) for sample in dataset.splits["train"][:2])
    first, second, third = memory.read([a, a, b], keep=True)
    assert torch.equal(first, second)
    assert torch.equal(third, next(encoder.encode([b])))


def epoch(dataset: VideoDataset, encoder: Encoder, number: int, **recipe: object) -> list[tuple[Tensor, int]]:
    return list(TrainingSet(FeatureMemory(encoder), dataset, Recipe(**recipe)).epoch(number))  # type: ignore[arg-type]


def same(first: list[tuple[Tensor, int]], second: list[tuple[Tensor, int]]) -> bool:
    return all(torch.equal(a, b) and x == y for (a, x), (b, y) in zip(first, second, strict=True))


def one_value_of_each(clips: list[tuple[Tensor, int]]) -> list[float]:
    return sorted(features[3, 5].item() for features, _ in clips)


def test_an_epoch_is_the_whole_set_in_an_order_of_its_own(dataset: VideoDataset, encoder: Encoder) -> None:
    first, second = (epoch(dataset, encoder, number) for number in (1, 2))
    assert sorted(label for _, label in first) == sorted(dataset.label_ids("train"))
    assert [label for _, label in first] != [label for _, label in second]
    assert same(first, epoch(dataset, encoder, 1))
    assert not same(first, epoch(dataset, encoder, 1, seed=1))


@pytest.mark.parametrize(("views", "alike"), [(0, []), (1, [(1, 2), (1, 3)]), (2, [(1, 3)])])
def test_views_are_fresh_or_reused_as_the_recipe_says(
    dataset: VideoDataset, encoder: Encoder, views: int, alike: list[tuple[int, int]]
) -> None:
    values = {number: one_value_of_each(epoch(dataset, encoder, number, views=views)) for number in (1, 2, 3)}
    for pair in [(1, 2), (1, 3), (2, 3)]:
        expected = pair in alike or views == 1
        assert (values[pair[0]] == pytest.approx(values[pair[1]], abs=1e-6)) is expected


def test_evaluation_takes_the_centred_clip_in_a_fixed_order(dataset: VideoDataset, encoder: Encoder) -> None:
    evaluation = EvaluationSet(FeatureMemory(encoder), dataset, "val")
    expected = list(encoder.encode([Clip(sample, CENTRED) for sample in dataset.splits["val"]]))
    for _ in range(2):
        assert same(list(evaluation), list(zip(expected, dataset.label_ids("val"), strict=True)))
