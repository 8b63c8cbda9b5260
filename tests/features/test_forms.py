from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow import Recipe
from vjepa_mlflow.data import VideoDataset
from vjepa_mlflow.features import Clip, choose_form, evaluation_clips
from vjepa_mlflow.features.forms import COMPILING_PAYS, feature_space
from vjepa_mlflow.features.store import FeatureStore
from vjepa_mlflow.model import FrozenBackbone, LoadedBackbone, locate

PAYS = COMPILING_PAYS["fp32"]


@pytest.fixture
def backbone(model: VJEPA2ForVideoClassification, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> FrozenBackbone:
    """One that could be compiled, as on a GPU."""
    monkeypatch.setattr(FrozenBackbone, "forms", lambda *_: ["lean", "eager"])
    return LoadedBackbone(model, locate("tiny").preprocessing)


@pytest.fixture
def clips(dataset: VideoDataset) -> list[Clip]:
    return evaluation_clips(dataset.splits["train"], num_clips=2)


def store(backbone: FrozenBackbone, recipe: Recipe, form: str, clips: Sequence[Clip]) -> None:
    space = feature_space(backbone, recipe, form)
    kept = FeatureStore(space)
    for clip in clips:
        kept.write(space.entry(clip), torch.zeros(2, 2))
    kept.finish()


def test_few_clips_are_not_worth_compiling(backbone: FrozenBackbone, clips: list[Clip]) -> None:
    assert choose_form(backbone, Recipe(), clips) == "eager"
    assert choose_form(backbone, Recipe(), clips * PAYS) == "lean"


@pytest.mark.parametrize(("kept", "other"), [("lean", "eager"), ("eager", "lean")])
def test_clips_are_taken_in_the_form_that_the_store_has_them_in(
    backbone: FrozenBackbone, clips: list[Clip], kept: str, other: str
) -> None:
    store(backbone, Recipe(), kept, clips[:3])
    store(backbone, Recipe(), other, clips[:1])
    assert choose_form(backbone, Recipe(), clips) == choose_form(backbone, Recipe(), clips * PAYS) == kept
    assert choose_form(backbone, Recipe(cache="memory"), clips) == "eager"
    assert choose_form(backbone, Recipe(stride=2), clips * PAYS) == "lean"  # which are other features


def test_what_goes_on_keeps_its_form(backbone: FrozenBackbone, clips: list[Clip]) -> None:
    store(backbone, Recipe(), "eager", clips)
    assert choose_form(backbone, Recipe(), clips, resumed="lean") == "lean"
    assert choose_form(backbone, Recipe(), clips, resumed="transformers") == "eager"  # which is not to be had here
