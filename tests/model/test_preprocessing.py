import numpy as np
import pytest
import torch

from vjepa_mlflow.model import CENTRED, load_processor, locate, preprocess
from vjepa_mlflow.video import View

CPU = torch.device("cpu")


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 90, 160, 3), dtype=np.uint8)


def test_the_centred_view_is_the_processors_own_output(frames: np.ndarray) -> None:
    processor = load_processor(locate("tiny"))
    expected = processor(videos=[frames], return_tensors="pt")["pixel_values_videos"][0]
    pixels = preprocess(processor, frames, view=CENTRED, device=CPU)
    assert pixels.dtype == torch.float32
    assert pixels.shape == (16, 3, 64, 64)
    assert torch.equal(pixels, expected)


def test_a_view_is_a_crop_of_the_resized_frames(frames: np.ndarray) -> None:
    processor = load_processor(locate("tiny"))
    whole = processor(videos=[frames], return_tensors="pt", do_center_crop=False)["pixel_values_videos"][0]
    assert whole.shape[-2:] == (73, 129)
    corners = {
        View(crop_y=0.0, crop_x=0.0): whole[..., :64, :64],
        View(crop_y=1.0, crop_x=1.0): whole[..., -64:, -64:],
        View(crop_y=0.0, crop_x=1.0, flip=True): whole[..., :64, -64:].flip(-1),
    }
    for view, expected in corners.items():
        assert torch.equal(preprocess(processor, frames, view=view, device=CPU), expected)


def test_the_position_of_a_view_does_not_move_its_crop(frames: np.ndarray) -> None:
    processor = load_processor(locate("tiny"))
    early = preprocess(processor, frames, view=View(position=0.0), device=CPU)
    assert torch.allclose(early, preprocess(processor, frames, view=CENTRED, device=CPU))
