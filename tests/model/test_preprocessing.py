from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import VJEPA2VideoProcessor

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.model import (
    CENTRED,
    Preprocessing,
    Sides,
    locate,
    make_processor,
    preprocess,
    preprocessing,
    preprocessing_of,
)
from vjepa_mlflow.video import View

CPU = torch.device("cpu")
GPU = pytest.param(
    torch.device("cuda:0"),
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")],
    id="gpu",
)

SMALL = Preprocessing(crop_size=Sides(48, 48))
KINDS = {
    "bilinear": SMALL,
    "nearest": replace(SMALL, resample=0),
    "bicubic": replace(SMALL, resample=3),
    "not resized": replace(SMALL, do_resize=False),
    "not rescaled": replace(SMALL, do_rescale=False),
    "not normalised": replace(SMALL, do_normalize=False),
    "only resized": replace(SMALL, do_rescale=False, do_normalize=False),
    "only cut": replace(SMALL, do_resize=False, do_rescale=False, do_normalize=False),
    "wide": replace(SMALL, crop_size=Sides(40, 97)),
    "tall": replace(SMALL, crop_size=Sides(97, 33), resample=3),
    "other values": replace(SMALL, image_mean=(0.5, 0.25, 0), image_std=(1, 0.3, 1e-6), rescale_factor=1 / 127.5),
    "whole numbers": replace(SMALL, image_mean=(0, 1, 2), image_std=(1, 2, 3), rescale_factor=1),
}
SIZES = [(90, 160), (161, 91), (54, 54), (55, 97), (40, 300), (47, 49), (3, 1000), (1, 1), (5, 3), (1080, 1920)]


def draw(height: int, width: int, frames: int = 2) -> Tensor:
    """Noise, whose edges are as sharp as any: a cubic goes beyond what a byte can hold."""
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 2, (frames, height, width, 3), generator=generator, dtype=torch.uint8) * 255


def alone(how: Preprocessing, clip: Tensor, view: View = CENTRED, device: torch.device = CPU) -> Tensor:
    return preprocess(how, [clip], views=[view], device=device)[0]


def by_transformers(how: Preprocessing, clips: Sequence[Tensor], device: torch.device = CPU, **kwargs: bool) -> Tensor:
    videos = [clip.to(device).permute(0, 3, 1, 2) for clip in clips]
    return torch.stack(make_processor(how)(videos=videos, **kwargs)["pixel_values_videos"])


@pytest.mark.parametrize("device", [pytest.param(CPU, id="cpu"), GPU])
@pytest.mark.parametrize("kind", KINDS)
def test_the_centred_view_is_the_processors_own_output(kind: str, device: torch.device) -> None:
    clips = [draw(*size) for size in SIZES]
    expected = by_transformers(KINDS[kind], clips, device)
    pixels = preprocess(KINDS[kind], clips, views=[CENTRED] * len(clips), device=device)
    assert pixels.dtype == expected.dtype
    assert torch.equal(pixels, expected)


def test_a_view_is_a_crop_of_the_resized_frames() -> None:
    frames = draw(90, 160)
    whole = by_transformers(SMALL, [frames], do_center_crop=False)[0]
    assert whole.shape[-2:] == (54, 96)
    corners = {
        View(crop_y=0.0, crop_x=0.0): whole[..., :48, :48],
        View(crop_y=1.0, crop_x=1.0): whole[..., -48:, -48:],
        View(crop_y=0.0, crop_x=1.0, flip=True): whole[..., :48, -48:].flip(-1),
    }
    for view, expected in corners.items():
        assert torch.equal(alone(SMALL, frames, view), expected)


def test_the_position_of_a_view_does_not_move_its_crop() -> None:
    frames = draw(90, 165)  # 51 pixels more than the crop has, so that its centre is to be rounded
    assert torch.equal(alone(SMALL, frames, View(position=0.0)), alone(SMALL, frames))
    assert torch.equal(alone(SMALL, frames, View(flip=True)), alone(SMALL, frames).flip(-1))


def test_a_view_of_frames_that_are_smaller_than_its_crop_has_their_padding() -> None:
    small, how = draw(20, 30), KINDS["not resized"]
    assert torch.equal(alone(how, small, View(crop_y=0.1, crop_x=0.9, flip=True)), alone(how, small).flip(-1))


@pytest.mark.parametrize("at_once", [1, 1 << 25])
def test_a_clip_is_the_same_alone_and_among_others_of_any_size(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "PIXELS_AT_ONCE", at_once)
    frames = draw(90, 160)
    clips = [frames, frames[:, :, :80].contiguous(), frames.flip(0), frames[:, :70], frames]
    views = [CENTRED, View(crop_x=0.2), View(crop_y=0.9, flip=True), CENTRED, View(position=0.1)]
    together = preprocess(SMALL, clips, views=views, device=CPU)
    assert together.shape == (5, 2, 3, 48, 48)
    for clip, view, pixels in zip(clips, views, together, strict=True):
        assert torch.equal(pixels, alone(SMALL, clip, view))


@pytest.mark.parametrize("device", [pytest.param(CPU, id="cpu"), GPU])
def test_channels_are_last_in_memory_whatever_was_done(device: torch.device) -> None:
    for how in KINDS.values():
        clips = [draw(20, 30), draw(60, 90), draw(60, 90)]
        pixels = preprocess(how, clips, views=[CENTRED, CENTRED, View(flip=True)], device=device)
        assert pixels.permute(0, 1, 3, 4, 2).is_contiguous()


def test_a_processor_says_what_it_does() -> None:
    for how in KINDS.values():
        assert preprocessing_of("model", make_processor(how)) == how
    assert preprocessing_of("model", VJEPA2VideoProcessor()) == Preprocessing()
    assert make_processor(locate("tiny").preprocessing).crop_size["height"] == 64


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("size", {"height": 9, "width": 9}, r"size=.*: expected \{'shortest_edge': 54\}"),
        ("do_center_crop", False, "do_center_crop=False: expected true"),
        ("image_mean", 0.5, "image_mean=0.5: expected three numbers"),
        ("resample", 1, "resample=1: expected one of 0, 2, 3"),
    ],
)
def test_a_processor_that_does_what_cannot_be_saved_is_refused(name: str, value: object, said: str) -> None:
    processor = make_processor(SMALL)
    setattr(processor, name, value)
    with pytest.raises(UserError, match=f"^model: .*{said}"):
        preprocessing_of("model", processor)
