import torch

from vjepa_mlflow.model import backbone_digest, load_classifier, load_processor, locate, processor_digest


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


def test_the_preprocessing_has_a_name_of_its_own() -> None:
    processor = load_processor(locate("tiny"))
    before = processor_digest(processor)
    assert processor_digest(load_processor(locate("tiny"))) == before
    processor.image_mean = [0.5, 0.5, 0.5]
    assert processor_digest(processor) != before
