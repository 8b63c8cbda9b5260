"""Frames on a GPU, copied by its driver to where they are wanted.

FFmpeg's own way goes through memory of the driver's and a frame of FFmpeg's, from which they would be copied again, and
takes several times as long of a processor, of which all decode videos meanwhile.
"""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import (
    PYFUNCTYPE,
    byref,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint64,
    c_void_p,
    py_object,
)
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from vjepa_mlflow.runtime.streams import KEPT
from vjepa_mlflow.video.error import VideoError

# From cuda.h, the header of CUDA's driver API.
DONE = 0
HOST, DEVICE = 1, 2
CONTEXT_OF_POINTER = 1


class _Copy(ctypes.Structure):
    """CUDA_MEMCPY2D: where a copy's rows come from, and where they go."""

    _fields_ = (
        ("srcXInBytes", c_size_t),
        ("srcY", c_size_t),
        ("srcMemoryType", c_int),
        ("srcHost", c_void_p),
        ("srcDevice", c_uint64),
        ("srcArray", c_void_p),
        ("srcPitch", c_size_t),
        ("dstXInBytes", c_size_t),
        ("dstY", c_size_t),
        ("dstMemoryType", c_int),
        ("dstHost", c_void_p),
        ("dstDevice", c_uint64),
        ("dstArray", c_void_p),
        ("dstPitch", c_size_t),
        ("WidthInBytes", c_size_t),
        ("Height", c_size_t),
    )


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h, which is how PyAV tells where a plane lies."""

    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int),
        ("device_id", c_int),
        ("ndim", c_int),
        ("type_code", c_uint8),
        ("type_bits", c_uint8),
        ("type_lanes", c_uint16),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class _Rows(NamedTuple):
    """Rows of bytes in a GPU's memory.

    Attributes:
        address: of the first.
        pitch: bytes from one to the next.
        width: bytes of one.
        height: how many.
    """

    address: int
    pitch: int
    width: int
    height: int

    @classmethod
    def of(cls, plane: VideoPlane) -> "_Rows":
        capsule = plane.__dlpack__()  # which the tensor's description goes with
        tensor = _Tensor.from_address(_content_of(capsule, b"dltensor"))
        height, *others = tensor.shape[: tensor.ndim]
        width = prod(others) * tensor.type_bits // 8
        return cls(tensor.data + tensor.byte_offset, plane.line_size, width, height)


_content_of = PYFUNCTYPE(c_void_p, py_object, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))


def copy_from_gpu(frame: VideoFrame, values: np.ndarray) -> None:
    """Copies the planes of a frame on a GPU: Y, and then Cb and Cr, which take turns.

    Args:
        frame: of 8 bits.
        values: uint8 of shape (height * width * 3 // 2,).

    Raises:
        VideoError: the frame is of another format, or the GPU's driver refuses.
    """
    planes: list[_Rows] = []
    with suppress(NotImplementedError):  # of formats that PyAV hands out no planes of
        planes = [_Rows.of(plane) for plane in frame.planes]
    shapes = [(rows.height, rows.width) for rows in planes]
    if shapes != [(frame.height, frame.width), (frame.height // 2, frame.width)]:
        raise VideoError("a GPU decodes it to frames of another format")
    with _context_of(planes[0].address):
        _pin(values)
        for rows, first in zip(planes, (0, frame.height * frame.width), strict=True):
            source = (0, 0, DEVICE, None, rows.address, None, rows.pitch)
            target = (0, 0, HOST, values[first:].ctypes.data, 0, None, rows.width)
            _call("cuMemcpy2D_v2", byref(_Copy(*source, *target, rows.width, rows.height)))


@contextmanager
def _context_of(address: int) -> Iterator[None]:
    """Within the block the driver works in the context that the memory at an address is of, which is FFmpeg's."""
    context = c_void_p()
    _call("cuPointerGetAttribute", byref(context), CONTEXT_OF_POINTER, c_uint64(address))
    _call("cuCtxPushCurrent_v2", context)
    try:
        yield
    finally:
        _call("cuCtxPopCurrent_v2", byref(context))


_PINNED: list[mmap.mmap] = []
"""The memory that a GPU writes by itself, if any: it stays mapped as long as the driver knows it."""


def _pin(values: np.ndarray) -> None:
    """Has the GPU write memory by itself that this process keeps; where that cannot be, its driver copies."""
    memory = _memory_of(values)
    if memory is None or memory in _PINNED:
        return
    driver, size = _driver(), len(memory)
    if _PINNED and driver.cuMemHostUnregister(_address_of(_PINNED[0])) == DONE:
        _PINNED.clear()
    if not _PINNED and size <= KEPT and driver.cuMemHostRegister_v2(_address_of(memory), c_size_t(size), 0) == DONE:
        _PINNED.append(memory)


def _memory_of(values: np.ndarray) -> mmap.mmap | None:
    """The mapped memory that an array lies in; None for one of NumPy's own."""
    owner: object = values
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return owner if isinstance(owner, mmap.mmap) else None


def _address_of(memory: mmap.mmap) -> c_void_p:
    return c_void_p(np.frombuffer(memory, np.uint8).ctypes.data)


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")  # with which FFmpeg has decoded the frame


def _call(function: str, *values: object) -> None:
    status = getattr(_driver(), function)(*values)
    if status != DONE:
        raise VideoError(f"the GPU's driver does not hand its frames out ({function}: error {status})")
