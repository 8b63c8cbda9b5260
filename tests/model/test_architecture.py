import pytest
import torch
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from vjepa_mlflow.model.architecture import classifier_shapes
from vjepa_mlflow.model.checkpoint import TINY_FOLDER
from vjepa_mlflow.model.configuration import Configuration, read_configuration

CHANGES: dict[str, dict[str, object]] = {
    "tiny": {},
    "other layers": {"num_hidden_layers": 2, "num_pooler_layers": 2, "pred_num_hidden_layers": 3},
    "none": {"num_hidden_layers": 1, "pred_num_hidden_layers": 0, "pred_num_mask_tokens": 0},
    "no biases": {"qkv_bias": False},
    "other sizes": {"hidden_size": 48, "mlp_ratio": 2.3, "pred_hidden_size": 40, "pred_mlp_ratio": 3, "patch_size": 8},
    "other clips": {"tubelet_size": 4, "crop_size": 96, "frames_per_clip": 8},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_classifier_has_the_weights_that_transformers_gives_it(changes: dict[str, object]) -> None:
    fields = {**read_configuration("tiny", TINY_FOLDER).fields, **changes}
    with torch.device("meta"):
        model = VJEPA2ForVideoClassification(VJEPA2Config(**fields, num_labels=3))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert classifier_shapes(Configuration(fields, ("a", "b", "c"))) == expected
