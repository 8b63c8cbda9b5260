"""Copies of what a GPU decoded, by a driver that takes this process's memory for a GPU's."""

import ctypes
import mmap
from typing import Any

import av
import numpy as np
import pytest

from vjepa_mlflow.runtime.streams import KEPT
from vjepa_mlflow.video import VideoError, gpu_copies
from vjepa_mlflow.video.gpu_copies import copy_from_gpu

HEIGHT, WIDTH = 48, 84
"""Of a frame. FFmpeg's rows of it are longer than that."""

DONE, REFUSED = 0, 1


class Driver:
    """CUDA's driver, as far as it is asked.

    Attributes:
        pinned: the memory that the GPU may write by itself, by its address: how many bytes.
        depth: contexts that are pushed.
        refuses: a function that fails.
    """

    def __init__(self) -> None:
        self.pinned: dict[int, int] = {}
        self.depth = 0
        self.refuses = ""

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any) -> int:
            return REFUSED if name == self.refuses else getattr(self, f"do_{name}")(*values)

        return call

    def do_cuPointerGetAttribute(self, *_: object) -> int:  # noqa: N802
        return DONE

    def do_cuCtxPushCurrent_v2(self, _: object) -> int:  # noqa: N802
        self.depth += 1
        return DONE

    def do_cuCtxPopCurrent_v2(self, _: object) -> int:  # noqa: N802
        self.depth -= 1
        return DONE

    def do_cuMemHostRegister_v2(self, address: Any, size: Any, _: int) -> int:  # noqa: N802
        self.pinned[address.value] = size.value
        return DONE

    def do_cuMemHostUnregister(self, address: Any) -> int:  # noqa: N802
        del self.pinned[address.value]
        return DONE

    def do_cuMemcpy2D_v2(self, copy: Any) -> int:  # noqa: N802
        asked = copy._obj
        for row in range(asked.Height):
            source, target = asked.srcDevice + row * asked.srcPitch, asked.dstHost + row * asked.dstPitch
            ctypes.memmove(target, source, asked.WidthInBytes)
        return DONE


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(gpu_copies, "_driver", lambda: driver)
    monkeypatch.setattr(gpu_copies, "_PINNED", [])
    return driver


@pytest.fixture
def values() -> np.ndarray:
    """Those of a frame, where Cb and Cr take turns."""
    return np.random.default_rng(0).integers(0, 256, HEIGHT * WIDTH * 3 // 2, np.uint8)


@pytest.fixture
def frame(values: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(values.reshape(HEIGHT * 3 // 2, WIDTH), format="nv12")


def mapped(size: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)


def test_planes_are_copied_without_what_lies_between_their_rows(
    driver: Driver, frame: av.VideoFrame, values: np.ndarray
) -> None:
    assert frame.planes[0].line_size > WIDTH
    for copied in (np.zeros_like(values), mapped(4 * values.nbytes)[values.nbytes :][: values.nbytes]):
        copy_from_gpu(frame, copied)
        assert np.array_equal(copied, values)
        assert driver.depth == 0


def test_a_gpu_writes_by_itself_what_is_mapped_and_kept(
    driver: Driver, frame: av.VideoFrame, values: np.ndarray
) -> None:
    sizes = []
    for memory in (np.empty(KEPT, np.uint8), mapped(KEPT // 2), mapped(KEPT), mapped(KEPT + 1), mapped(KEPT)):
        for place in range(2):
            copy_from_gpu(frame, memory[place * values.nbytes :][: values.nbytes])
        sizes.append(list(driver.pinned.values()))
        if driver.pinned:
            assert list(driver.pinned) == [memory.ctypes.data]
    assert sizes == [[], [KEPT // 2], [KEPT], [], [KEPT]]


@pytest.mark.parametrize("function", ["cuMemHostRegister_v2", "cuMemHostUnregister"])
def test_memory_that_cannot_be_pinned_is_copied_to_all_the_same(
    driver: Driver, frame: av.VideoFrame, values: np.ndarray, function: str
) -> None:
    driver.refuses = function
    for memory in (mapped(KEPT), mapped(KEPT)):
        copy_from_gpu(frame, memory[: values.nbytes])
        assert np.array_equal(memory[: values.nbytes], values)


@pytest.mark.parametrize("function", ["cuPointerGetAttribute", "cuCtxPushCurrent_v2", "cuMemcpy2D_v2"])
def test_a_driver_that_refuses_is_named(
    driver: Driver, frame: av.VideoFrame, values: np.ndarray, function: str
) -> None:
    driver.refuses = function
    with pytest.raises(VideoError, match=f"the GPU's driver does not hand its frames out \\({function}: error 1\\)"):
        copy_from_gpu(frame, values)
    assert driver.depth == 0


@pytest.mark.parametrize("pixel_format", ["p010le", "yuv444p", "rgb24"])
def test_frames_of_another_format_are_refused(driver: Driver, values: np.ndarray, pixel_format: str) -> None:
    with pytest.raises(VideoError, match="a GPU decodes it to frames of another format"):
        copy_from_gpu(av.VideoFrame(WIDTH, HEIGHT, pixel_format), values)
