"""Motions, by what they do to pixels: a slide is a roll of the picture, a quarter turn a rotation."""

import math

import pytest
import torch
from torch import Tensor

from vjepa_mlflow.data.drawing import SIZE_RANGE, TURNING_POINT, Films, draw_films, expose
from vjepa_mlflow.data.motions import Motion, Style

SIZE = 64


def draw(*motions: Motion, seed: int = 0, **style: object) -> Films:
    """Films that differ in their motions alone: a pixel or a quarter turn a frame, by default on plain ground."""
    given = {"textures": ("waves",), "contrast": 0.0, "speed": (1 / SIZE, 1 / SIZE), "spin": (math.pi / 2,) * 2}
    films = [
        draw_films(
            torch.tensor([motion]),
            Style(**{**given, **style}),  # type: ignore[arg-type]
            size=SIZE,
            generator=torch.Generator().manual_seed(seed),
        )
        for motion in motions
    ]
    return Films(*(torch.cat(parts) for parts in zip(*films, strict=True)))


def shown(films: Films, *times: float) -> Tensor:
    return expose(films, torch.tensor(times))


@pytest.mark.parametrize(
    ("motion", "rows", "columns"),
    [
        (Motion(right=1), 0, 1),
        (Motion(right=-1), 0, -1),
        (Motion(down=1), 1, 0),
        (Motion(right=1, down=-1), -1, 1),
        (Motion(), 0, 0),
    ],
)
def test_slides_roll_the_picture_and_come_back_on_the_other_side(motion: Motion, rows: int, columns: int) -> None:
    (frames,) = shown(draw(motion), *range(SIZE + 1))
    for time in (1, 5, SIZE // 2, SIZE):
        rolled = frames[0].roll((rows * time, columns * time), dims=(-2, -1))
        assert torch.allclose(frames[time], rolled, atol=2e-3), time


@pytest.mark.parametrize("clockwise", [1, -1])
def test_turns_rotate_the_figure_about_itself(clockwise: int) -> None:
    films = draw(Motion(clockwise=clockwise))
    films.start[:, :2] = 0.5
    (frames,) = shown(films, 0, 1, 4)
    assert torch.allclose(frames[1], frames[0].rot90(-clockwise, dims=(-2, -1)), atol=2e-3)
    assert torch.allclose(frames[2], frames[0], atol=2e-3)
    assert (frames[1] - frames[0]).abs().max() > 0.1


@pytest.mark.parametrize("growing", [1, -1])
def test_growing_figures_cover_more_and_begin_anew_at_twice_the_size(growing: int) -> None:
    films = draw(Motion(growing=growing), growth=(SIZE_RANGE / 8,) * 2, radius=(0.1, 0.1))
    films.start[:, :2], films.start[:, 3] = 0.5, SIZE_RANGE / 2
    (frames,) = shown(films, 0, 3, 8)
    ground = films.background[0, :, :1, :1]
    before, after, _ = ((frame - ground).abs().amax(dim=0).gt(0.02).float().mean() for frame in frames)
    assert (after / before).item() == pytest.approx(2 ** (growing * 2 * 3 / 8), rel=0.1)  # areas
    assert torch.allclose(frames[2], frames[0], atol=2e-3)


def test_what_returns_goes_back_the_way_it_came() -> None:
    films = draw(Motion(right=1, returning=1), Motion(right=1))
    back, on = shown(films, 0, 4, 2 * films.turning_point[0].item() - 4)
    assert TURNING_POINT[0] <= films.turning_point[0].item() <= TURNING_POINT[1]
    assert torch.allclose(back[1], back[2], atol=2e-3)
    assert torch.equal(back[1], on[1])
    assert not torch.allclose(on[1], on[2], atol=2e-3)


@pytest.mark.parametrize(
    ("motion", "seen"),
    [
        (Motion(right=1, camera=1), lambda frame: frame.roll(1, dims=-1)),
        (Motion(down=-1, camera=1), lambda frame: frame.roll(-1, dims=-2)),
        (Motion(clockwise=1, camera=1), lambda frame: frame.rot90(-1, dims=(-2, -1))),
    ],
)
def test_the_camera_moves_ground_and_figure_alike(motion: Motion, seen: object) -> None:
    (frames,) = shown(draw(motion, contrast=1.0), 0, 1)
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(frames[1][inner], seen(frames[0])[inner], atol=2e-3)  # type: ignore[operator]
    assert (frames[1] - frames[0]).abs().max() > 0.05


def test_a_camera_that_comes_nearer_sees_the_middle_larger() -> None:
    (frames,) = shown(draw(Motion(growing=1, camera=1), contrast=1.0, growth=(math.log(2),) * 2), 0, 1)
    smaller = torch.nn.functional.avg_pool2d(frames[1], 2)
    quarter = slice(SIZE // 4, 3 * SIZE // 4)
    assert torch.allclose(smaller, frames[0][:, quarter, quarter], atol=0.1)


def test_contrast_is_of_the_ground_alone() -> None:
    plain, full = (draw(Motion(), contrast=contrast) for contrast in (0.0, 1.0))
    assert plain.background.std(dim=(-2, -1)).max() < 1e-5
    assert full.background.std(dim=(-2, -1)).max() > 0.02
    assert torch.equal(plain.figure, full.figure)
    assert torch.allclose(plain.background.mean(dim=(-2, -1)), full.background.mean(dim=(-2, -1)), atol=1e-5)


def test_drawing_many_at_once_or_one_by_one_exposes_the_same() -> None:
    films = draw(Motion(right=1), Motion(clockwise=-1, down=1), Motion(growing=1, camera=1))
    together = shown(films, 0, 5.5)
    for index in range(3):
        alone = shown(Films(*(part[index : index + 1] for part in films)), 0, 5.5)
        assert torch.allclose(together[index], alone[0], atol=1e-5)
