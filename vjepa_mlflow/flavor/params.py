"""The parameters of a prediction."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vjepa_mlflow.files.paths import shortened
from vjepa_mlflow.flavor.faults import PredictionError
from vjepa_mlflow.flavor.signature import BAD_VIDEOS, DEFAULT_PARAMS, MAX_CLIPS


class Params(NamedTuple):
    """Those of a prediction: see `flavor.signature.DEFAULT_PARAMS`."""

    top_k: int
    num_clips: int
    bad_videos: str

    @classmethod
    def defaults(cls) -> "Params":
        return cls.read(None)

    @classmethod
    def read(cls, given: Mapping[str, Any] | None) -> "Params":
        """Those that are given, and the defaults of the others.

        Raises:
            PredictionError: one of them is out of its range.
        """
        values = {**DEFAULT_PARAMS, **{name: value for name, value in (given or {}).items() if value is not None}}
        params = cls(int(values["top_k"]), int(values["num_clips"]), str(values["bad_videos"]))
        for name in ("top_k", "num_clips"):
            if (value := getattr(params, name)) < 1:
                raise PredictionError(f"{name}={value}: expected a whole number of at least 1.")
        if params.num_clips > MAX_CLIPS:
            raise PredictionError(f"num_clips={params.num_clips}: expected at most {MAX_CLIPS}.")
        if params.bad_videos not in BAD_VIDEOS:
            given_word = shortened(params.bad_videos)
            raise PredictionError(f"bad_videos={given_word}: expected one of {', '.join(BAD_VIDEOS)}.")
        return params
