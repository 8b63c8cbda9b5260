"""The checkpoint in the package: what it is, and that its backbone sees motion."""

import fnmatch

import pytest
import torch
from helpers import PYPROJECT, REPOSITORY
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from benchmarks.tiny import linear_accuracy
from tools.pretrain_tiny.model import PREPROCESSING, make_model
from tools.pretrain_tiny.vocabulary import make_vocabulary
from vjepa_mlflow.data import demo
from vjepa_mlflow.data.drawing import draw_films, expose
from vjepa_mlflow.model import TINY_FOLDER, label_names, load_trained, locate


def test_it_is_a_small_folder_that_is_installed_with_the_package() -> None:
    files = {path.name for path in TINY_FOLDER.iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors", "video_preprocessor_config.json"}
    assert sum(path.stat().st_size for path in TINY_FOLDER.iterdir()) < 3_000_000
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["vjepa_mlflow"]
    package = TINY_FOLDER.parent.parent
    for path in TINY_FOLDER.iterdir():
        assert any(fnmatch.fnmatch(str(path.relative_to(package)), pattern) for pattern in patterns)


def test_it_is_what_its_program_makes() -> None:
    model = make_model(list(make_vocabulary()), seed=0)
    stored = load_file(TINY_FOLDER / "model.safetensors")
    assert {name: weight.shape for name, weight in stored.items()} == {
        name: weight.shape for name, weight in model.state_dict().items()
    }
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    config = VJEPA2Config.from_pretrained(TINY_FOLDER)
    assert label_names(config) == list(make_vocabulary())
    own = {"dtype", "torch_dtype", "transformers_version", "architectures", "_attn_implementation"}
    ours, theirs = ({k: v for k, v in c.to_dict().items() if k not in own} for c in (model.config, config))
    assert ours == theirs
    assert locate("tiny").preprocessing == PREPROCESSING


def test_its_card_says_what_it_is() -> None:
    card = ModelCard.load(TINY_FOLDER / "README.md")
    assert card.data.to_dict()["license"] == "apache-2.0"
    assert card.data.to_dict()["pipeline_tag"] == "video-classification"
    for said in ("generated films", "Not for", "tools.pretrain_tiny", "2506.09985"):
        assert said in card.text
    (steps, loss, accuracy) = (REPOSITORY / "tools/pretrain_tiny/log.csv").read_text().splitlines()[-1].split(",")
    assert f"{int(steps):,} steps" in card.text
    assert f"{float(loss):.3f}" in card.text
    assert f"{float(accuracy):.3f}" in card.text


@pytest.fixture(scope="module")
def clips() -> tuple[torch.Tensor, list[str]]:
    """Clips of the demo's classes as pixels, and their classes; not encoded, to be quick."""
    labels = [motion for motion in demo.MOTIONS for _ in range(16)]
    motions = torch.tensor([demo.MOTIONS[label] for label in labels])
    processor = VJEPA2VideoProcessor.from_pretrained(TINY_FOLDER)
    size, generator = processor.size["shortest_edge"], torch.Generator().manual_seed(0)
    films = draw_films(motions, demo.STYLES["train"], size=size, generator=generator)
    videos = (expose(films, torch.arange(16.0)) * 255).to(torch.uint8)
    return processor(videos=list(videos), return_tensors="pt")["pixel_values_videos"], labels


def probe(model: VJEPA2ForVideoClassification, pixels: torch.Tensor, labels: list[str]) -> float:
    with torch.no_grad():
        features = [model.vjepa2(part, skip_predictor=True).last_hidden_state.mean(1) for part in pixels.split(32)]
    return linear_accuracy(torch.cat(features), labels)


def test_its_features_tell_motions_apart_where_random_ones_do_not(clips: tuple[torch.Tensor, list[str]]) -> None:
    pixels, labels = clips
    shuffled = torch.stack([clip[torch.randperm(16, generator=torch.Generator().manual_seed(0))] for clip in pixels])
    pretrained = load_trained(TINY_FOLDER)
    random = make_model(list(make_vocabulary()), seed=1).eval()
    accuracy = probe(pretrained, pixels, labels)
    assert accuracy > probe(random, pixels, labels) + 0.5
    assert accuracy > probe(pretrained, shuffled, labels) + 0.25
