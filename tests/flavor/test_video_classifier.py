"""What a loaded classifier owns in a process, and how it ends."""

import threading

import psutil
import pytest

from vjepa_mlflow.flavor import ServingConfig, example_input, example_video
from vjepa_mlflow.flavor.video_classifier import VideoClassifier
from vjepa_mlflow.model import load_classifier, locate
from vjepa_mlflow.video import Sampling


@pytest.fixture(scope="module")
def classifier() -> VideoClassifier:
    checkpoint = locate("tiny")
    model = load_classifier(checkpoint, ["ape", "bee"], seed=0).eval()
    config = ServingConfig(device="cpu", decoders=1)
    return VideoClassifier(model, checkpoint.preprocessing, sampling=Sampling(16, 4), config=config)


def batchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batcher"]


def test_a_block_ends_with_its_thread_and_its_processes(classifier: VideoClassifier) -> None:
    threads, processes = batchers(), psutil.Process().children(recursive=True)
    with classifier:
        first = classifier.predict(example_input(example_video()))
        assert len(batchers()) == len(threads) + 1
    assert batchers() == threads
    assert [one for one in psutil.Process().children(recursive=True) if one not in processes and one.is_running()] == []
    with classifier:  # what is asked of it later has them made again
        assert classifier.predict(example_input(example_video())).equals(first)


def test_a_block_in_which_nothing_is_asked_makes_nothing(classifier: VideoClassifier) -> None:
    threads = batchers()
    with classifier:
        assert batchers() == threads


def test_mlflow_gives_it_out_as_it_is(classifier: VideoClassifier) -> None:
    assert classifier.get_raw_model() is classifier
