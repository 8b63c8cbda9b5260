from dataclasses import replace

import pytest
import torch

from vjepa_mlflow.model import Preprocessing, Sides, backbone_digest, load_classifier, locate, preprocessing_digest

OTHERS = Preprocessing(
    crop_size=Sides(64, 96),
    do_normalize=False,
    do_rescale=False,
    do_resize=False,
    image_mean=(0, 0.5, 1),
    image_std=(1, 2, 3),
    resample=3,
    rescale_factor=1,
)


def test_models_of_one_checkpoint_share_their_backbones_name_whatever_their_heads() -> None:
    checkpoint = locate("tiny")
    first = load_classifier(checkpoint, ["a", "b"], seed=0)
    second = load_classifier(checkpoint, ["c", "d", "e"], seed=1)
    torch.nn.init.ones_(second.pooler.query_tokens)
    assert backbone_digest(first) == backbone_digest(second)


def test_one_weight_or_one_value_of_the_configuration_makes_another_name() -> None:
    model = load_classifier(locate("tiny"), ["a", "b"], seed=0)
    before = backbone_digest(model)
    model.config.layer_norm_eps *= 2
    assert backbone_digest(model) != before
    model.config.layer_norm_eps /= 2
    assert backbone_digest(model) == before
    model.vjepa2.encoder.layer[1].mlp.fc1.bias.data[0] += 1e-6
    assert backbone_digest(model) != before


@pytest.mark.parametrize(
    ("preprocessing", "digest"),
    [
        (Preprocessing(), "2914357a0b2b8336168007224d50a592efa0bcff52c9a6759fc54b48ff10010f"),
        (locate("tiny").preprocessing, "f6b45fd226284d4f94676ecfefbe170cf80f7a9e2e2fae8937b2691a7e80a749"),
        (OTHERS, "6b95a87075ef32130894dfdb3920cf39dba66c59a381174893f12001517f5894"),
    ],
    ids=["defaults", "tiny", "others"],
)
def test_the_preprocessing_keeps_the_name_that_features_are_stored_by(
    preprocessing: Preprocessing, digest: str
) -> None:
    assert preprocessing_digest(preprocessing) == digest
    assert preprocessing_digest(replace(preprocessing, image_mean=(0.5, 0.5, 0.4))) != digest
