import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event

import pytest
import torch
from helpers import environment
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow import UserError
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.model import Head, load_classifier, load_processor, take_apart, trained
from vjepa_mlflow.model.checkpoint import TINY_FOLDER, WEIGHTS_FILE, Checkpoint, from_folder
from vjepa_mlflow.model.trained import (
    CheckpointBackbone,
    Trained,
    write_checkpoint,
    written_beside,
)
from vjepa_mlflow.model.weights import StoredWeights

LABELS = ["ape", "bee", "cat"]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY_FOLDER, tmp_path / "copied"))


def head_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """What a training might come to."""
    weights = Head.of(load_classifier(checkpoint, LABELS, seed=3)).state_dict()
    return {name: weight + 1 for name, weight in weights.items()}


def save(checkpoint: Checkpoint, folder: Path, *, seed: int = 0) -> dict[str, str]:
    backbone = CheckpointBackbone(checkpoint, LABELS, seed=seed)
    whole = Trained.of_head(checkpoint, LABELS, head_of(checkpoint), backbone=backbone)
    return write_checkpoint("the model", whole, folder)


def divide(folder: Path, weights: Mapping[str, Tensor], count: int) -> None:
    (folder / "model.safetensors").unlink()
    for number in range(count):
        part = {name: weights[name] for name in sorted(weights)[number::count]}
        save_file(part, folder / f"part-{number}.safetensors", metadata={"format": "pt"})


def bare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("vjepa2."): weight for name, weight in weights.items() if name.startswith("vjepa2.")}


@pytest.mark.parametrize("kind", ["tiny", "fp32", "several files", "bare", "no predictor", "another predictor"])
def test_transformers_loads_the_checkpoints_backbone_and_the_trained_head(
    copied: Path, tmp_path: Path, kind: str
) -> None:
    stored = load_file(copied / "model.safetensors")
    if kind == "fp32":
        stored = {name: weight.float() for name, weight in stored.items()}
    elif kind == "bare":
        stored = bare(stored)
    elif kind == "no predictor":
        stored = {name: weight for name, weight in stored.items() if "predictor" not in name}
    elif kind == "another predictor":
        stored["vjepa2.predictor.proj.bias"] = torch.zeros(5)
    if kind != "tiny":
        divide(copied, stored, 3 if kind == "several files" else 1)
    checkpoint = from_folder("copied", copied)
    digests = save(checkpoint, tmp_path / "saved", seed=7)
    assert digests == {path.name: sha256([path]) for path in (tmp_path / "saved").glob("*.safetensors")}
    expected = load_classifier(checkpoint, LABELS, seed=7).state_dict() | head_of(checkpoint)
    loaded, found = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(found[wrong] for wrong in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    weights = loaded.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())
    assert list(loaded.config.id2label.values()) == LABELS


def test_both_ways_of_saving_write_the_same_and_transformers_says_no_more(tmp_path: Path) -> None:
    checkpoint = from_folder("tiny", TINY_FOLDER)
    model, processor = load_classifier(checkpoint, LABELS, seed=0), load_processor(checkpoint)
    model.load_state_dict(model.state_dict() | head_of(checkpoint))
    save(checkpoint, tmp_path / "parts")
    write_checkpoint("the model", take_apart("the model", model, processor), tmp_path / "whole")
    model.save_pretrained(tmp_path / "transformers")
    processor.save_pretrained(tmp_path / "transformers")
    for path in (tmp_path / "parts").iterdir():
        assert (tmp_path / "whole" / path.name).read_bytes() == path.read_bytes()
    for name in ("config.json", "video_preprocessor_config.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "transformers" / name).read_bytes()


def test_a_model_in_half_precision_stays_in_it(tmp_path: Path) -> None:
    checkpoint = from_folder("tiny", TINY_FOLDER)
    model = load_classifier(checkpoint, LABELS, seed=0).to(torch.bfloat16)
    write_checkpoint("the model", take_apart("the model", model, load_processor(checkpoint)), tmp_path / "saved")
    loaded = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "saved", dtype="auto")
    assert loaded.dtype == torch.bfloat16
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())


def test_what_was_saved_is_saved_again_to_the_last_bit(tmp_path: Path) -> None:
    digests = save(from_folder("tiny", TINY_FOLDER), tmp_path / "first")
    whole = from_folder("first", tmp_path / "first", whole=True, weights_sha256=digests)
    assert write_checkpoint("the model", Trained.of_whole(whole), tmp_path / "second") == digests
    for path in (tmp_path / "first").iterdir():
        assert (tmp_path / "second" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"pooler.query_tokens": torch.full((1, 1, 144), torch.nan)},
            "query_tokens holds values that are no numbers",
        ),
        ({"classifier.bias": torch.zeros(2)}, r"classifier.bias, has the shape \(2,\): expected the shape \(3,\)"),
        ({"other": torch.zeros(2)}, r"the first, other, has the shape \(2,\): expected no such tensor"),
        ({"classifier.bias": torch.zeros(3, dtype=torch.int8)}, "classifier.bias is of torch.int8: expected one of"),
    ],
)
def test_a_head_that_could_not_be_loaded_is_refused(tmp_path: Path, change: dict[str, Tensor], sentence: str) -> None:
    checkpoint = from_folder("tiny", TINY_FOLDER)
    backbone = CheckpointBackbone(checkpoint, LABELS)
    whole = Trained.of_head(checkpoint, LABELS, head_of(checkpoint) | change, backbone=backbone)
    with pytest.raises(UserError, match=f"^the model: .*{sentence}"):
        write_checkpoint("the model", whole, tmp_path / "saved")


def test_weights_of_the_backbone_that_are_no_numbers_are_refused(copied: Path, tmp_path: Path) -> None:
    stored = load_file(copied / "model.safetensors")
    stored["vjepa2.predictor.proj.bias"][0] = torch.inf  # which no head is trained on
    divide(copied, stored, 1)
    with pytest.raises(UserError, match=r"^model=copied: vjepa2.predictor.proj.bias holds values that are no numbers"):
        save(from_folder("copied", copied), tmp_path / "saved")


def test_a_backbone_is_written_beside_other_work_and_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    backbone = CheckpointBackbone(from_folder("tiny", TINY_FOLDER), LABELS)
    expected = backbone(tmp_path / "alone")
    with written_beside(backbone) as put:
        assert put(tmp_path / "linked") == expected
        assert (tmp_path / "linked").stat().st_nlink == 2
        monkeypatch.setattr(os, "link", refuse)
        assert put(tmp_path / "copied") == expected
    assert (tmp_path / "linked").stat().st_nlink == 1  # the other one went with the block
    for name in ("linked", "copied"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "alone").read_bytes()


def refuse(*_: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_what_the_thread_could_not_write_is_written_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = CheckpointBackbone(from_folder("tiny", TINY_FOLDER), LABELS)
    copy, paths = CheckpointBackbone.copy, []

    def full_at_first(self: CheckpointBackbone, path: Path, stopping: Event) -> str:
        paths.append(path)
        if len(paths) == 1:
            raise OSError("no space left")
        return copy(self, path, stopping)

    monkeypatch.setattr(CheckpointBackbone, "copy", full_at_first)
    with written_beside(backbone) as put:
        assert put(tmp_path / "saved") == sha256([tmp_path / "saved"])
    assert paths[1] == tmp_path / "saved"


def test_a_backbone_that_was_replaced_since_is_not_written(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY_FOLDER, tmp_path / "copy"))
    backbone = CheckpointBackbone(from_folder("copy", folder), LABELS)
    other = {name: weight + 1 for name, weight in load_file(folder / WEIGHTS_FILE).items()}
    save_file(other, folder / WEIGHTS_FILE)
    with written_beside(backbone) as put, pytest.raises(UserError, match=r"^model=copy: its files were changed"):
        put(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_block_that_ends_early_does_not_wait_for_the_rest_of_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    began, read, read_weight = Event(), [], trained.read_weight

    def read_slowly(stored: StoredWeights, name: str) -> Tensor:
        read.append(name)
        began.set()
        time.sleep(0.05)
        return read_weight(stored, name)

    monkeypatch.setattr(trained, "read_weight", read_slowly)
    with written_beside(CheckpointBackbone(from_folder("tiny", TINY_FOLDER), LABELS)):
        began.wait(5)
    assert len(read) < 20  # of a hundred


def test_a_head_is_saved_without_importing_transformers(tmp_path: Path) -> None:
    checkpoint = from_folder("tiny", TINY_FOLDER)
    save_file(head_of(checkpoint), tmp_path / "head")
    program = (
        "import sys\n"
        "import torch\n"
        "from safetensors.torch import load_file\n"
        "from vjepa_mlflow import flavor, model\n"
        "labels, checkpoint = ['ape', 'bee', 'cat'], model.locate('tiny')\n"
        "with model.written_beside(model.CheckpointBackbone(checkpoint, labels)) as backbone:\n"
        "    trained = model.Trained.of_head(checkpoint, labels, load_file('head'), backbone=backbone)\n"
        "    example = flavor.example_input(flavor.example_video())\n"
        "    flavor.save_trained(trained, 'model', stride=4, input_example=example)\n"
        "frames = torch.zeros(16, 90, 120, 3, dtype=torch.uint8)\n"
        "model.preprocess(checkpoint.preprocessing, [frames], views=[model.CENTRED], device=torch.device('cpu'))\n"
        "print(sorted({'transformers', 'torchvision', 'av'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    processor = VJEPA2VideoProcessor.from_pretrained(tmp_path / "model" / "checkpoint")
    assert processor.to_dict() == load_processor(checkpoint).to_dict()
