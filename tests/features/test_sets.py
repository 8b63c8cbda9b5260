import pytest
import torch
from torch import Tensor
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow import Recipe
from vjepa_mlflow.data import VideoDataset
from vjepa_mlflow.features import Clip, EvaluationSet, FeatureSource, TrainingSet
from vjepa_mlflow.model import CENTRED, LoadedBackbone, locate


@pytest.fixture(scope="module")
def source(model: VJEPA2ForVideoClassification) -> FeatureSource:
    backbone = LoadedBackbone(model, locate("tiny").preprocessing)
    return FeatureSource(backbone, Recipe(cache="memory"), form="transformers")


def epoch(dataset: VideoDataset, source: FeatureSource, number: int, **recipe: object) -> list[tuple[Tensor, int]]:
    return list(TrainingSet(source, dataset, Recipe(**recipe)).read(number))  # type: ignore[arg-type]


def same(first: list[tuple[Tensor, int]], second: list[tuple[Tensor, int]]) -> bool:
    return all(torch.equal(a, b) and x == y for (a, x), (b, y) in zip(first, second, strict=True))


def one_value_of_each(clips: list[tuple[Tensor, int]]) -> list[float]:
    return sorted(features[3, 5].item() for features, _ in clips)


def test_an_epoch_is_the_whole_set_in_an_order_of_its_own(dataset: VideoDataset, source: FeatureSource) -> None:
    first, second = (epoch(dataset, source, number) for number in (1, 2))
    assert sorted(label for _, label in first) == sorted(dataset.label_ids("train"))
    assert [label for _, label in first] != [label for _, label in second]
    assert same(first, epoch(dataset, source, 1))
    assert not same(first, epoch(dataset, source, 1, seed=1))


@pytest.mark.parametrize(("views", "alike"), [(0, []), (1, [(1, 2), (1, 3)]), (2, [(1, 3)])])
def test_views_are_fresh_or_reused_as_the_recipe_says(
    dataset: VideoDataset, source: FeatureSource, views: int, alike: list[tuple[int, int]]
) -> None:
    values = {number: one_value_of_each(epoch(dataset, source, number, views=views)) for number in (1, 2, 3)}
    for pair in [(1, 2), (1, 3), (2, 3)]:
        expected = pair in alike or views == 1
        assert (values[pair[0]] == pytest.approx(values[pair[1]], abs=1e-6)) is expected


def test_evaluation_takes_the_centred_clip_in_a_fixed_order(dataset: VideoDataset, source: FeatureSource) -> None:
    evaluation = EvaluationSet.of_split(source, dataset, "val")
    clips = [Clip(sample, CENTRED) for sample in dataset.splits["val"]]
    encoded = dict(source.encoder.encode(clips))
    expected = [encoded[clip] for clip in clips]
    for _ in range(2):
        assert same(list(evaluation.read()), list(zip(expected, dataset.label_ids("val"), strict=True)))
