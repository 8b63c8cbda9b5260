import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import VJEPA2VideoProcessor

from vjepa_mlflow.model import CENTRED, load_processor, locate, preprocess, preprocessing
from vjepa_mlflow.video import View

CPU = torch.device("cpu")


@pytest.fixture
def frames() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 90, 160, 3), dtype=np.uint8))


def one(processor: VJEPA2VideoProcessor, frames: Tensor, view: View) -> Tensor:
    return preprocess(processor, [frames], views=[view], device=CPU)[0]


def test_the_centred_view_is_the_processors_own_output(frames: Tensor) -> None:
    processor = load_processor(locate("tiny"))
    expected = processor(videos=[frames.numpy()], return_tensors="pt")["pixel_values_videos"][0]
    pixels = one(processor, frames, CENTRED)
    assert pixels.dtype == torch.float32
    assert pixels.shape == (16, 3, 64, 64)
    assert torch.equal(pixels, expected)


def test_a_view_is_a_crop_of_the_resized_frames(frames: Tensor) -> None:
    processor = load_processor(locate("tiny"))
    whole = processor(videos=[frames.numpy()], return_tensors="pt", do_center_crop=False)["pixel_values_videos"][0]
    assert whole.shape[-2:] == (73, 129)
    corners = {
        View(crop_y=0.0, crop_x=0.0): whole[..., :64, :64],
        View(crop_y=1.0, crop_x=1.0): whole[..., -64:, -64:],
        View(crop_y=0.0, crop_x=1.0, flip=True): whole[..., :64, -64:].flip(-1),
    }
    for view, expected in corners.items():
        assert torch.equal(one(processor, frames, view), expected)


def test_the_position_of_a_view_does_not_move_its_crop(frames: Tensor) -> None:
    processor = load_processor(locate("tiny"))
    early = one(processor, frames, View(position=0.0))
    assert torch.allclose(early, one(processor, frames, CENTRED))


@pytest.mark.parametrize("at_once", [1, 1 << 25])
def test_a_clip_is_the_same_alone_and_among_others_of_any_size(
    frames: Tensor, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preprocessing, "PIXELS_AT_ONCE", at_once)
    processor = load_processor(locate("tiny"))
    clips = [frames, frames[:, :, :80].contiguous(), frames.flip(0), frames[:, :70], frames]
    views = [CENTRED, View(crop_x=0.2), View(crop_y=0.9, flip=True), CENTRED, View(position=0.1)]
    together = preprocess(processor, clips, views=views, device=CPU)
    assert together.shape == (5, 16, 3, 64, 64)
    for clip, view, pixels in zip(clips, views, together, strict=True):
        assert torch.equal(pixels, one(processor, clip, view))
