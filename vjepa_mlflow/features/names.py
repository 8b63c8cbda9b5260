"""Names of features, made from everything that they depend on."""

import functools
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vjepa_mlflow.files.digest import sha256_of_text
from vjepa_mlflow.video import View

if TYPE_CHECKING:
    from vjepa_mlflow.features.assembly import Clip

FORMAT_VERSION = 3
"""Of stored features. It changes with the code that samples, crops or encodes, if that changes their values."""


@dataclass(frozen=True)
class FeatureSpace:
    """What the features of all clips of a run depend on in the same way. Features of one space may be used together.

    Attributes:
        backbone: digest of the encoder's weights and configuration.
        processor: digest of the preprocessing's values.
        num_frames: frames of a clip.
        stride: frames from one sampled frame to the next; 0 where frames_per_second counts.
        frames_per_second: how many are sampled of a second instead; 0: every stride-th.
        precision: numeric format of the encoder.
        form: which encoder, see `model.Backbone`.
    """

    backbone: str
    processor: str
    num_frames: int
    stride: int
    frames_per_second: float
    precision: str
    form: str

    @functools.cached_property
    def name(self) -> str:
        return sha256_of_text(json.dumps({"version": FORMAT_VERSION, **asdict(self)}, sort_keys=True))[:16]

    def entry(self, clip: "Clip") -> str:
        """The name of a clip's features: the space, the video's content and the view. 64 hexadecimal digits."""
        view = clip.view
        name = f"{self.name} {clip.sample.digest} {view.position!r} {view.crop_y!r} {view.crop_x!r} {view.flip}"
        if view.has_centred_crop and view != View():
            name += " centred"  # of features without it, the crop may be a pixel beside that of the processor
        return sha256_of_text(name)
