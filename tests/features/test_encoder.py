from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import encode
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow.data import VideoDataset
from vjepa_mlflow.features import Clip, Encoder
from vjepa_mlflow.model import CENTRED, LoadedBackbone, locate, preprocess
from vjepa_mlflow.video import Sampling, VideoError, View, read_clip


def make_encoder(model: VJEPA2ForVideoClassification, *, precision: str) -> Encoder:
    backbone = LoadedBackbone(model, locate("tiny").preprocessing)
    return Encoder(backbone, form="transformers", sampling=Sampling(16, 4), precision=precision)


@pytest.fixture(scope="module")
def encoder(model: VJEPA2ForVideoClassification) -> Encoder:
    return make_encoder(model, precision="fp32")


def test_features_are_the_backbones_last_hidden_state(
    dataset: VideoDataset, encoder: Encoder, model: VJEPA2ForVideoClassification
) -> None:
    clips = [Clip(sample, View(position=0.2, crop_x=0.1)) for sample in dataset.splits["train"][:3]]
    features = encode(encoder, clips)
    assert len(features) == 3
    for clip, feature in zip(clips, features, strict=True):
        frames = torch.from_numpy(read_clip(clip.sample.path, num_frames=16, stride=4, position=0.2))
        pixels = preprocess(locate("tiny").preprocessing, [frames], views=[clip.view], device=torch.device("cpu"))
        with torch.no_grad():
            expected = model.vjepa2(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state[0]
        assert torch.equal(feature, expected)
        assert not feature.requires_grad


def test_a_clips_features_do_not_depend_on_the_others(dataset: VideoDataset, encoder: Encoder) -> None:
    clips = [Clip(sample, CENTRED) for sample in dataset.splits["train"][:5]]
    together = encode(encoder, clips)
    backwards = encode(encoder, clips[::-1])[::-1]
    alone = [encode(encoder, [clip])[0] for clip in clips]
    for features in zip(together, backwards, alone, strict=True):
        assert torch.equal(features[0], features[1])
        assert torch.equal(features[0], features[2])


def test_what_was_read_and_not_taken_is_forgotten(dataset: VideoDataset, encoder: Encoder) -> None:
    encoding = encoder.encode([Clip(sample, CENTRED) for sample in dataset.splits["train"]])
    assert len(encoding.take()) == 1
    encoding._take_in(*encoding._stream.take())  # type: ignore[misc]
    encoding.close()
    assert not encoding._read
    assert not encoding._assemblies


def test_bf16_features_are_bf16(dataset: VideoDataset, model: VJEPA2ForVideoClassification) -> None:
    encoder = make_encoder(model, precision="bf16")
    (features,) = encode(encoder, [Clip(dataset.splits["val"][0], CENTRED)])
    assert features.dtype == torch.bfloat16


def test_a_video_that_vanishes_later_is_named(tmp_path: Path, dataset: VideoDataset, encoder: Encoder) -> None:
    gone = replace(dataset.splits["train"][0], path=tmp_path / "gone.mp4")
    there = dataset.splits["train"][1]
    found, fault, last = encode(encoder, [Clip(sample, CENTRED) for sample in (there, gone, there)])
    assert isinstance(fault, VideoError)
    assert str(fault) == "there is no such file"
    assert torch.equal(found, last)
