"""Opening a file with PyAV, whose titles and the like may be in any encoding: nobody reads them here."""

from collections.abc import Mapping
from typing import Any

import av
from av.container import InputContainer

LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""PyAV 19 takes any encoding, and has the option no longer."""


def open_container(file: Any, options: Mapping[str, str] | None = None) -> InputContainer:
    """Opens a video to read it.

    Args:
        file: its path, or a file object.
        options: FFmpeg's.

    Raises:
        av.FFmpegError: it is no video.
    """
    container: InputContainer = av.open(file, "r", options=dict(options or {}), **LENIENT)
    return container
