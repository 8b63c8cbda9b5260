"""Features that are not there yet, with a progress bar."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vjepa_mlflow import features
from vjepa_mlflow.runtime.iteration import progress


def encode_clips(source: features.FeatureSource, clips: Sequence[features.Clip]) -> list[float]:
    """Encodes clips, with a progress bar, and keeps their features; `source.finish` waits until they are kept.

    Args:
        source: what encodes and keeps.
        clips: not in the source yet, and no more than it has room for.

    Returns:
        When each clip's features were there, in seconds of `time.perf_counter`.

    Raises:
        UserError: a video cannot be decoded any more, or the disk is full.
    """
    times: list[float] = []
    for _ in progress(source.encode(clips), total=len(clips), description="Encoding", unit="clip"):
        if source.cache.denial:
            break
        times.append(time.perf_counter())
    return times
