"""The real ViT-L behind `mlflow.pyfunc` on a GPU, with random weights."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
import torch
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow import flavor
from vjepa_mlflow.data import draw_clip
from vjepa_mlflow.flavor.config import ServingConfig
from vjepa_mlflow.model import from_folder, load_classifier, load_processor
from vjepa_mlflow.video import read_clip

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]

LABELS = ["ape", "bee", "cat"]


@pytest.fixture(scope="module")
def saved(vit_large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = from_folder("vit-large", vit_large)
    path = tmp_path_factory.mktemp("flavor") / "model"
    model = load_classifier(checkpoint, LABELS, seed=0)
    torch.nn.init.normal_(model.classifier.weight, std=0.2)  # so that answers differ
    flavor.save_model(model, load_processor(checkpoint), path, stride=4, config=ServingConfig(batch_size=4))
    return path


@pytest.fixture(scope="module")
def videos() -> list[bytes]:
    return [draw_clip("left_clockwise", seed=seed) for seed in range(6)]


@pytest.fixture(scope="module")
def expected(saved: Path, videos: list[bytes]) -> list[list[float]]:
    """Each video's scores by transformers' own modules, in fp32."""
    processor = VJEPA2VideoProcessor.from_pretrained(saved / "checkpoint")
    model = VJEPA2ForVideoClassification.from_pretrained(saved / "checkpoint").cuda().eval()
    clips = [processor(read_clip(video, num_frames=16, stride=4), return_tensors="pt") for video in videos]
    with torch.no_grad():
        return [model(**inputs.to("cuda")).logits[0].double().softmax(-1).tolist() for inputs in clips]


@pytest.mark.parametrize(("precision", "rounding", "tolerance"), [("fp32", 1e-3, 2e-3), ("bf16", 0.05, 0.1)])
def test_many_threads_get_transformers_answers_and_the_first_one_does_not_wait(
    saved: Path,
    videos: list[bytes],
    expected: list[list[float]],
    precision: str,
    rounding: float,
    tolerance: float,
) -> None:
    served = mlflow.pyfunc.load_model(str(saved), model_config={"precision": precision})

    def scores(video: bytes) -> list[float]:
        pairs = served.predict(flavor.example_input(video))["top_k"][0]
        return [{pair["label"]: pair["score"] for pair in pairs}[label] for label in LABELS]

    served.get_raw_model().engine()  # as a server does before its first request
    started = time.perf_counter()
    alone = [scores(videos[0])]
    assert time.perf_counter() - started < 0.5
    alone += [scores(video) for video in videos[1:]]
    with ThreadPoolExecutor(12) as threads:
        together = list(threads.map(scores, videos * 4))
    for found, asked_alone in zip(together, alone * 4, strict=True):
        assert found == pytest.approx(asked_alone, abs=rounding)
    for found, scores_of_video in zip(alone, expected, strict=True):
        assert found == pytest.approx(scores_of_video, abs=tolerance)
