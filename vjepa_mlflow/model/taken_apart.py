"""A classifier in memory, in the parts that it is saved from."""

from functools import partial

from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.model.architecture import BACKBONE
from vjepa_mlflow.model.classifier import check_activation, label_names, preprocessing_of
from vjepa_mlflow.model.configuration import FIELDS, Configuration
from vjepa_mlflow.model.trained import Trained, write_weights
from vjepa_mlflow.model.weights import check_finite


def take_apart(about: str, model: VJEPA2ForVideoClassification, processor: VJEPA2VideoProcessor) -> Trained:
    """A classifier and its preprocessing in the parts that they are saved from.

    Args:
        about: what messages begin with.
        model: the classifier, with its labels in `config.id2label`.
        processor: its preprocessing.

    Raises:
        UserError: some of its weights are no numbers, its activation is not one of `ACTIVATIONS`, or see
            `preprocessing_of`.
    """
    weights = model.state_dict()
    check_finite(about, weights)
    configuration = Configuration(
        {name: getattr(model.config, name) for name in FIELDS}, tuple(label_names(model.config))
    )
    check_activation(about, configuration)
    backbone = {name: weight for name, weight in weights.items() if name.startswith(BACKBONE)}
    return Trained(
        configuration,
        preprocessing_of(about, processor),
        backbone=partial(write_weights, about, weights=backbone),
        head={name: weight for name, weight in weights.items() if name not in backbone},
        dtype=str(model.dtype).removeprefix("torch."),
    )
