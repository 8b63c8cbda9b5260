"""Videos to probabilities: decoders and a model at work in one process, for any number of askers at the same time."""

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow.flavor.batching import Batcher
from vjepa_mlflow.flavor.clip_classifier import ClipClassifier
from vjepa_mlflow.flavor.config import ServingConfig
from vjepa_mlflow.flavor.hosts import task_cpus
from vjepa_mlflow.model import ClipShape, Preprocessing, choose_device, copy_to, use_device
from vjepa_mlflow.runtime.asking import Asker
from vjepa_mlflow.runtime.cpus import thread_count, usable_cpus
from vjepa_mlflow.runtime.forks import check_gpu
from vjepa_mlflow.video import Content, Decoders, Reading, Sampling, VideoError, clip_positions

Video = Path | bytes | Content | VideoError
"""A file of one's own, the content of a stranger's, or why there is none."""

AHEAD = 2
"""Videos for each decoder, and for each place in a batch, that are worked on before they are wanted."""


class Classification(NamedTuple):
    """What a model says of a video.

    Attributes:
        probabilities: of the classes, averaged over the video's clips; None where it cannot be read.
        warning: what is wrong with the video all the same; empty if nothing is.
        error: why it cannot be read; empty where it can.
    """

    probabilities: np.ndarray | None
    warning: str = ""
    error: str = ""


class Engine:
    """A classifier that is ready to work, in this process alone.

    Args:
        model: on the CPU, where it stays as it is.
        preprocessing: its own.
        sampling: of clips.
        config: how it computes, and what it puts up with.

    Attributes:
        ahead: videos of one asker that are worth working on at the same time.
        max_videos: of one request.

    Raises:
        UserError: the device is not there, or its memory is too small.
    """

    def __init__(
        self,
        model: VJEPA2ForVideoClassification,
        preprocessing: Preprocessing,
        *,
        sampling: Sampling,
        config: ServingConfig,
    ):
        in_spark = task_cpus() is not None  # whose videos are those of whoever runs it
        cpus = config.decoders or task_cpus() or usable_cpus()
        self.ahead = AHEAD * max(cpus, config.batch_size)
        self.max_videos = sys.maxsize if in_spark else config.max_videos
        limits = config.limits.for_own_files() if in_spark else config.limits
        device = choose_device(config.device)
        if device.type == "cuda":
            check_gpu("predict")
        allocate = partial(_pinned, device) if device.type == "cuda" else None
        decoders = Decoders(cpus, sampling, limits, allocate=allocate)
        threads = task_cpus() or thread_count(ClipShape.of(model.config).values)
        make = partial(_make_clip_classifier, model, preprocessing, config, threads=threads)
        # What computes is made in the thread that uses it: in a fork, OpenMP's threads of older ones are gone.
        self._batcher: Batcher[Tensor, Tensor] = Batcher(make, are_coming=lambda: decoders.are_working)
        self._decoders, self.serving = decoders, decoders.serving

    def classify(self, video: Video, num_clips: int, asker: Asker) -> "Future[Classification]":
        """Begins to say what a video shows, when it is the asker's turn.

        Args:
            video: which.
            num_clips: how many of its clips to average.
            asker: for whom; what is left of it is given up at the end of a block of `serving(asker)` around the call.
        """
        if isinstance(video, VideoError):
            return _done(Classification(None, error=str(video)))
        clips = _Clips(num_clips)
        for number, reading in enumerate(self._decoders.submit(video, clip_positions(num_clips), asker)):
            reading.add_done_callback(partial(self._take_reading, clips, number, asker))
        return clips.result

    def refuse(self, asker: Asker) -> None:
        """Gives up an asker's work for that of others."""
        self._decoders.refuse(asker)

    def abandon(self) -> None:
        """In a fork of the process that made it: lets go of what is that process's."""
        self._decoders.abandon()
        self._batcher.close.detach()

    def close(self) -> None:
        """Ends its processes and its thread. Nobody may wait for a video any more."""
        self._decoders.close()
        self._batcher.close()

    def _take_reading(self, clips: "_Clips", number: int, asker: Asker, reading: "Future[Reading]") -> None:
        try:
            clip, warning = reading.result()
            answer = self._batcher.submit(torch.from_numpy(clip), asker)
        except BaseException as error:  # nobody would hear of it here
            clips.put(number, error)
        else:
            answer.add_done_callback(partial(self._take_answer, clips, number, asker, clip.nbytes, warning))

    def _take_answer(
        self, clips: "_Clips", number: int, asker: Asker, size: int, warning: str, answer: "Future[Tensor]"
    ) -> None:
        self._decoders.let_go(asker, size)
        error = answer.exception()
        clips.put(number, _Clip(answer.result(), warning) if error is None else error)


class _Clip(NamedTuple):
    probabilities: Tensor
    warning: str


class _Clips:
    """What becomes known of a video's clips, in any order, and from any thread.

    Attributes:
        result: what all of them say, once they are there.
    """

    def __init__(self, count: int):
        self.result: Future[Classification] = Future()
        self._lock = threading.Lock()
        self._outcomes: dict[int, _Clip | BaseException] = {}
        self._count = count

    def put(self, number: int, outcome: _Clip | BaseException) -> None:
        with self._lock:
            self._outcomes[number] = outcome
            complete = len(self._outcomes) == self._count
        if complete and self.result.set_running_or_notify_cancel():
            self._tell([self._outcomes[number] for number in range(self._count)])

    def _tell(self, outcomes: "list[_Clip | BaseException]") -> None:
        errors = [one for one in outcomes if isinstance(one, BaseException)]
        if errors and not isinstance(errors[0], VideoError):
            self.result.set_exception(errors[0])
        elif errors:
            self.result.set_result(Classification(None, error=str(errors[0])))
        else:
            self.result.set_result(_average([one for one in outcomes if isinstance(one, _Clip)]))


def _average(clips: "Sequence[_Clip]") -> Classification:
    probabilities = [clip.probabilities for clip in clips]
    averaged = probabilities[0] if len(clips) == 1 else torch.stack(probabilities).mean(dim=0)
    return Classification(averaged.numpy(), warning=max(clip.warning for clip in clips))


def _done(classification: Classification) -> "Future[Classification]":
    future: Future[Classification] = Future()
    future.set_result(classification)
    return future


def _make_clip_classifier(
    model: VJEPA2ForVideoClassification, preprocessing: Preprocessing, config: ServingConfig, *, threads: int
) -> ClipClassifier:
    return ClipClassifier(
        copy_to(model, use_device(config.device)),
        preprocessing,
        precision=config.precision,
        batch_size=config.batch_size,
        threads=threads,
    )


def _pinned(device: torch.device, shape: tuple[int, ...]) -> np.ndarray:
    """Memory that a GPU takes a clip from without the thread that all answers wait for."""
    with torch.cuda.device(device):
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
