import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import REPOSITORY
from safetensors.torch import load_file, save_file
from transformers import VJEPA2ForVideoClassification, VJEPA2Model

from vjepa_mlflow import UserError
from vjepa_mlflow.model import (
    Checkpoint,
    Head,
    count_parameters,
    from_folder,
    load_classifier,
    load_processor,
    load_trained,
    locate,
)

LABELS = ["ape", "bee", "cat"]


@pytest.fixture
def checkpoint() -> Checkpoint:
    return locate("tiny")


@pytest.fixture
def copied(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint.folder, tmp_path / "copy"))


def test_new_labels_are_stored_and_only_the_head_trains(checkpoint: Checkpoint) -> None:
    model = load_classifier(checkpoint, LABELS, seed=0)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {label: index for index, label in enumerate(LABELS)}
    assert model.classifier.out_features == 3
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"pooler", "classifier"}
    assert not model.vjepa2.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_backbone_and_pooler_are_the_checkpoints_and_the_classifier_is_the_seeds(checkpoint: Checkpoint) -> None:
    stored = load_file(checkpoint.folder / "model.safetensors")
    first, again, other = (load_classifier(checkpoint, LABELS, seed=seed) for seed in (0, 0, 1))
    for name, tensor in first.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(tensor, stored[name]), name
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_the_classifier_is_kept_only_for_the_same_labels(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = load_classifier(checkpoint, LABELS, seed=0)
    model.save_pretrained(tmp_path)
    saved = from_folder("saved", tmp_path)
    assert torch.equal(load_classifier(saved, LABELS, seed=1).classifier.weight, model.classifier.weight)
    swapped = ["bee", "ape", "cat"]  # as many, so that transformers alone would keep the rows
    assert not torch.equal(load_classifier(saved, swapped, seed=1).classifier.weight, model.classifier.weight)


def test_a_backbone_without_a_head_gets_a_new_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    backbone = VJEPA2ForVideoClassification.from_pretrained(checkpoint.folder).vjepa2
    assert isinstance(backbone, VJEPA2Model)
    backbone.save_pretrained(tmp_path)
    model = load_classifier(from_folder("backbone", tmp_path), LABELS, seed=0)
    assert torch.equal(model.vjepa2.encoder.layernorm.weight, backbone.encoder.layernorm.weight)
    name = "encoder.layer.0.attention.query.weight"
    assert torch.equal(model.vjepa2.state_dict()[name], backbone.state_dict()[name])


def test_missing_backbone_weights_are_refused(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if ".layer.1." not in name},
        copied / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(UserError, match=r"weights missing .* vjepa2.encoder.layer.1"):
        load_classifier(from_folder("holed", copied), LABELS, seed=0)


def test_weights_of_another_shape_are_refused(copied: Path) -> None:
    edit_json(copied / "config.json", hidden_size=48)
    with pytest.raises(UserError, match="model=bent"):
        load_classifier(from_folder("bent", copied), LABELS, seed=0)


def test_a_broken_weight_file_is_refused(copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="model=broken: cannot be loaded"):
        load_classifier(from_folder("broken", copied), LABELS, seed=0)


def test_a_folder_without_processor_is_refused(copied: Path) -> None:
    (copied / "video_preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"no video_preprocessor_config\.json"):
        load_processor(from_folder("bare", copied))


def test_head_on_features_equals_the_whole_model(checkpoint: Checkpoint) -> None:
    model = load_trained(checkpoint.folder)
    pixels = torch.randn(2, 16, 3, 64, 64)
    with torch.no_grad():
        features = model.vjepa2(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
        assert torch.equal(Head(model)(features), model(pixel_values_videos=pixels).logits)


def test_counts_are_those_of_the_cards_model() -> None:
    from transformers import VJEPA2Config

    from vjepa_mlflow.model import freeze_backbone

    with torch.device("meta"):
        config = VJEPA2Config(frames_per_clip=16, crop_size=256, num_labels=174)
        model = freeze_backbone(VJEPA2ForVideoClassification(config))
    assert count_parameters(model) == (375_485_998, 49_336_320 + 178_350)


def test_code_that_comes_with_a_checkpoint_is_not_run(copied: Path, tmp_path: Path) -> None:
    program = (
        f"import pathlib\npathlib.Path({str(tmp_path / 'executed')!r}).touch()\nModel = Config = Processor = object\n"
    )
    (copied / "evil.py").write_text(program)
    own = {"AutoConfig": "evil.Config", "AutoModelForVideoClassification": "evil.Model"}
    edit_json(copied / "config.json", auto_map=own)
    edit_json(copied / "video_preprocessor_config.json", auto_map={"AutoVideoProcessor": "evil.Processor"})
    checkpoint = from_folder("copy", copied)
    load_classifier(checkpoint, LABELS, seed=0)
    load_processor(checkpoint)
    load_trained(copied)
    assert not (tmp_path / "executed").exists()


def test_weights_that_are_a_pickle_are_not_read(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    torch.save(weights, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model=copy: no \.safetensors weights in "):
        from_folder("copy", copied)


def test_nothing_asks_for_remote_code() -> None:
    sources = [path for room in ("vjepa_mlflow", "tools", "benchmarks") for path in (REPOSITORY / room).rglob("*.py")]
    assert len(sources) > 100
    assert not [path for path in sources if "trust_remote_code" in path.read_text()]


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
