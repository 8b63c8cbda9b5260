"""Encoding at the real size on a CUDA GPU, with random weights."""

import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
import torch
from helpers import encode, environment, gpu_memory_left, gpu_memory_needed
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow import Recipe, extract
from vjepa_mlflow.data import VideoDataset
from vjepa_mlflow.features import Clip, Encoder
from vjepa_mlflow.model import (
    CENTRED,
    Backbone,
    LoadedBackbone,
    Preprocessing,
    from_folder,
    load_classifier,
    matmul_precision,
)
from vjepa_mlflow.model.forward import compare_encoders, transformers_encoder
from vjepa_mlflow.recipe import PRECISIONS
from vjepa_mlflow.video import Sampling, View

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.fixture(scope="module")
def shared(small_data: Path, vit_short: Path) -> Recipe:
    """What two processes encode together."""
    return Recipe(data=str(small_data), model=str(vit_short), epochs=2, precision="bf16", device="cuda:0")


@pytest.fixture(scope="module")
def store_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module", autouse=True)
def two_processes(shared: Recipe, store_of_two: Path) -> Iterator[Popen[bytes]]:
    """Is at work while the first tests run, since starting takes most of its time."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["-m", "vjepa_mlflow", "extract", "--data", shared.data, "--model", shared.model]
    command += ["--epochs", "2", "--precision", "bf16", "--device", "cuda:0"]
    with Popen(command, env=environment(VJEPA_MLFLOW_CACHE=str(store_of_two))) as launcher:
        yield launcher
        launcher.terminate()


@pytest.fixture(scope="module")
def large(vit_large: Path) -> VJEPA2ForVideoClassification:
    return load_classifier(from_folder("large", vit_large), ["a", "b"], seed=0).to("cuda:0")


@pytest.fixture(scope="module")
def preprocessing(vit_large: Path) -> Preprocessing:
    return from_folder("large", vit_large).preprocessing


def make_encoder(model: VJEPA2ForVideoClassification, preprocessing: Preprocessing, *, precision: str) -> Encoder:
    backbone = LoadedBackbone(model, preprocessing)
    return Encoder(backbone, form="lean", sampling=Sampling(16, 4), precision=precision)


@pytest.fixture
def clips(dataset: VideoDataset) -> list[Clip]:
    return [Clip(sample, view) for sample in dataset.splits["train"] for view in (CENTRED, View(position=0.1))]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_lean_encoder_is_taken_and_errs_no_more_than_transformers(
    large: VJEPA2ForVideoClassification, precision: str
) -> None:
    with matmul_precision(precision):
        backbone = Backbone.of(large, precision=precision)
        ours, transformers = (
            compare_encoders(large, backbone),
            compare_encoders(large, transformers_encoder(large, precision)),
        )
    assert backbone.form == "lean"
    assert ours <= max(1.02 * transformers, 1.2e-5)  # in fp32, where errors are measured against transformers itself


def test_a_configuration_that_is_not_known_falls_back_and_says_so(
    large: VJEPA2ForVideoClassification, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(large.config, "hidden_act", "gelu_new")
    assert Backbone.of(large, precision="bf16").form == "transformers"
    assert "does not know this checkpoint's configuration" in capsys.readouterr().err


def test_in_fp32_transformers_computes_where_tf32_is_not_fast(
    large: VJEPA2ForVideoClassification, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    assert Backbone.of(large, precision="fp32").form == "transformers"


def test_an_encoder_that_does_not_agree_falls_back_and_says_so(
    large: VJEPA2ForVideoClassification, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(large.config, "layer_norm_eps", 1.0)  # which transformers' modules no longer look at
    assert Backbone.of(large, precision="bf16").form == "transformers"
    assert "off transformers' on this checkpoint" in capsys.readouterr().err


def test_a_clips_features_do_not_depend_on_the_others(
    large: VJEPA2ForVideoClassification, preprocessing: Preprocessing, clips: list[Clip]
) -> None:
    encoder = make_encoder(large, preprocessing, precision="bf16")
    together, backwards = encode(encoder, clips), encode(encoder, clips[::-1])[::-1]
    (alone,) = encode(encoder, clips[3:4])
    assert all(torch.equal(a, b) for a, b in zip(together, backwards, strict=True))
    assert torch.equal(alone, together[3])


def test_when_memory_runs_out_the_batch_is_halved(
    vit_short: Path, preprocessing: Preprocessing, clips: list[Clip], capsys: pytest.CaptureFixture[str]
) -> None:
    short = load_classifier(from_folder("short", vit_short), ["a", "b"], seed=0).to("cuda:0")
    whole = make_encoder(short, preprocessing, precision="fp32")
    expected, enough = gpu_memory_needed(lambda: encode(whole, clips))
    encoder = make_encoder(short, preprocessing, precision="fp32")
    with gpu_memory_left(0.6 * enough):
        features = encode(encoder, clips)
    assert encoder.batch_size < whole.batch_size
    assert len(features) == len(clips)
    assert f"Memory ran out: {encoder.batch_size} clips" in capsys.readouterr().err
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(features, expected, strict=True))


def stored(cache: Path) -> dict[str, bytes]:
    """The features in a cache, file by file."""
    files = (cache / "features").rglob("*.safetensors")
    return {str(file.relative_to(cache)): file.read_bytes() for file in files}


def test_two_processes_fill_the_store_as_one_does_byte_for_byte(
    two_processes: Popen[bytes], shared: Recipe, store_of_two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    extract(shared)
    assert two_processes.wait() == 0
    assert len(stored(tmp_path)) == 28
    assert stored(store_of_two) == stored(tmp_path)
