import numpy as np
import pytest
from av import VideoFrame

from vjepa_mlflow.video.picture import Colours, Kind, Painter, Turn, copy_planes, split_planes, to_rgb

BT_709, BT_601, UNKNOWN = 1, 5, 2
LIMITED, FULL = 1, 2


def random_frame(height: int, width: int, pixels: str, matrix: int = UNKNOWN, colour_range: int = 0) -> VideoFrame:
    frame = VideoFrame(width, height, pixels)
    random = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(random.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    frame.colorspace, frame.color_range = matrix, colour_range
    return frame


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("matrix", [BT_709, BT_601, UNKNOWN, 4, 7, 9])
@pytest.mark.parametrize("colour_range", [0, LIMITED, FULL])
@pytest.mark.parametrize("size", [(240, 322), (2, 2), (54, 1918)])
def test_planes_become_what_swscale_makes_of_them(
    size: tuple[int, int], pixels: str, matrix: int, colour_range: int
) -> None:
    frame = random_frame(*size, pixels, matrix, colour_range)
    colours = Kind.of(frame).colours()
    assert colours is not None
    planes = np.empty(size[0] * size[1] * 3 // 2, np.uint8)
    copy_planes(frame, planes)
    assert np.array_equal(to_rgb(planes, *size, colours), Painter().rgb(frame, Turn()))


@pytest.mark.parametrize(
    ("pixels", "size"),
    [
        ("yuv420p", (241, 320)),
        ("yuv420p", (240, 321)),
        ("yuv422p", (2, 2)),
        ("nv12", (2, 2)),
        ("yuv420p10le", (2, 2)),
        ("rgb24", (2, 2)),
        ("gray", (2, 2)),
    ],
)
def test_of_other_frames_it_is_not_known(pixels: str, size: tuple[int, int]) -> None:
    assert Kind.of(random_frame(*size, pixels)).colours() is None


def test_what_swscale_does_not_do_so_here_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    of = Colours.of.__func__  # type: ignore[attr-defined]
    other = lambda matrix, full: of(Colours, matrix, full=full)._replace(red=13076)  # noqa: E731
    monkeypatch.setattr(Colours, "of", other)
    assert Kind(2, 2, "yuv420p", 6, 0).colours() is None


def test_planes_are_split_without_a_copy() -> None:
    values = np.arange(12, dtype=np.uint8)
    luma, cb, cr = split_planes(values, 2, 4)
    assert (luma.tolist(), cb.tolist(), cr.tolist()) == ([[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 9]], [[10, 11]])
    luma, cb, cr = split_planes(values, 2, 4, interleaved=True)
    assert (luma.tolist(), cb.tolist(), cr.tolist()) == ([[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 10]], [[9, 11]])
    assert all(plane.base is not None for plane in (luma, cb, cr))
