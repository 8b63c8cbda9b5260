"""Names of features, made from everything that they depend on."""

import hashlib
import json
from dataclasses import asdict, dataclass

from vjepa_mlflow.features.encoder import Clip

FORMAT_VERSION = 1
"""Of stored features. It changes with the code that samples, crops or encodes, if that changes their values."""


@dataclass(frozen=True)
class FeatureSpace:
    """What the features of all clips of a run depend on in the same way. Features of one space may be used together.

    Attributes:
        backbone: digest of the encoder's weights and configuration.
        processor: digest of the preprocessing's values.
        num_frames: frames of a clip.
        stride: frames from one sampled frame to the next.
        precision: numeric format of the encoder.
        form: which encoder, see `model.Backbone`.
    """

    backbone: str
    processor: str
    num_frames: int
    stride: int
    precision: str
    form: str

    @property
    def name(self) -> str:
        return _digest({"version": FORMAT_VERSION, **asdict(self)})[:16]

    def entry(self, clip: Clip) -> str:
        """The name of a clip's features: the space, the video's content and the view. 64 hexadecimal digits."""
        return _digest({"space": self.name, "video": clip.sample.digest, **asdict(clip.view)})


def _digest(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
