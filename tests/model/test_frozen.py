import os
import shutil
import sys
from pathlib import Path
from subprocess import run

import pytest
import torch
from helpers import environment
from safetensors.torch import load_file, save_file

from vjepa_mlflow import UserError
from vjepa_mlflow.model import (
    TINY_FOLDER,
    WEIGHTS_FILE,
    Checkpoint,
    LoadedBackbone,
    from_folder,
    load_classifier,
    model_cache_dir,
    open_checkpoint,
)
from vjepa_mlflow.model.frozen import OpenedCheckpoint, StoredBackbone

LABELS = ["ape", "bee", "cat"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY_FOLDER, tmp_path / "copy"))


def locate_copy(folder: Path) -> Checkpoint:
    return from_folder("copy", folder, cache_dir=model_cache_dir("disk"))


def open_folder(folder: Path, labels: list[str] = LABELS, *, seed: int = 0) -> OpenedCheckpoint:
    return open_checkpoint(locate_copy(folder), labels, seed=seed, device=CPU)


def same(first: OpenedCheckpoint, second: OpenedCheckpoint) -> bool:
    heads = first.head.state_dict(), second.head.state_dict()
    return first.backbone.known == second.backbone.known and all(
        torch.equal(heads[0][name], heads[1][name]) for name in heads[0]
    )


def loads(opened: OpenedCheckpoint, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether its backbone is loaded when it is asked for, and not before."""
    loaded = []
    monkeypatch.setattr("vjepa_mlflow.model.classifier.load_classifier", lambda *_, **__: loaded.append(1) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _ = opened.backbone.model
    return bool(loaded)


@pytest.mark.parametrize("labels", [LABELS, ["x", "y"]])
def test_what_is_known_of_a_checkpoint_is_what_loading_it_gives(
    folder: Path, labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_folder(folder, seed=1)
    again, other = (
        open_folder(folder, labels, seed=3),
        load_classifier(locate_copy(folder), labels, seed=3),
    )
    assert first.backbone.known == again.backbone.known
    weights = again.head.state_dict()
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in weights.items())
    assert all(weight.data_ptr() % 64 == 0 for weight in weights.values())  # on which the last bits depend
    assert sum(weight.numel() for weight in other.vjepa2.parameters()) == again.backbone.known.parameters
    assert loads(again, monkeypatch)


def test_the_head_is_read_without_transformers(folder: Path) -> None:
    open_folder(folder)
    program = f"""
import sys, torch
from pathlib import Path
from vjepa_mlflow.model import from_folder, model_cache_dir, open_checkpoint
checkpoint = from_folder("copy", Path({str(folder)!r}), cache_dir=model_cache_dir("disk"))
open_checkpoint(checkpoint, {LABELS}, seed=0, device=torch.device("cpu"))
print([name for name in ("transformers", "torchvision", "torch._inductor") if name in sys.modules])
"""
    done = run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def change_weights(folder: Path, name: str, by: float) -> None:
    """Other values in a file of the same size and time."""
    path, before = folder / "model.safetensors", (folder / "model.safetensors").stat()
    weights = load_file(path)
    weights[name] += by
    save_file(weights, path, {"format": "pt"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_other_weights_are_another_backbone_whatever_their_files_time(folder: Path) -> None:
    before = open_folder(folder)
    change_weights(folder, "vjepa2.encoder.layernorm.bias", 1)
    after = open_folder(folder)
    assert after.backbone.known.backbone != before.backbone.known.backbone
    loaded = LoadedBackbone(after.backbone.model, after.backbone.preprocessing)
    assert after.backbone.known == loaded.known


def test_weights_that_change_before_they_are_loaded_are_refused(folder: Path) -> None:
    open_folder(folder)
    opened = open_folder(folder)
    change_weights(folder, "vjepa2.encoder.layernorm.bias", 1)
    with pytest.raises(UserError, match=r"^model=copy: its files were changed meanwhile"):
        _ = opened.backbone.model


def test_a_link_more_to_the_weights_changes_nothing(folder: Path) -> None:
    open_folder(folder)
    opened = open_folder(folder)
    os.link(folder / WEIGHTS_FILE, folder.parent / "backup")
    assert opened.backbone.model is not None


def test_what_was_noted_of_a_checkpoint_is_no_reason_to_take_it_as_a_trained_model(folder: Path) -> None:
    change_weights(folder, "vjepa2.predictor.layernorm.bias", float("nan"))
    open_folder(folder)
    trained = from_folder("copy", folder, whole=True, cache_dir=model_cache_dir("disk"))
    with pytest.raises(UserError, match=r"layernorm\.bias holds values that are no numbers"):
        open_checkpoint(trained, LABELS, seed=0, device=CPU)


def test_the_encoders_weights_are_read_without_a_model(folder: Path) -> None:
    backbone = (open_folder(folder), open_folder(folder))[1].backbone
    assert isinstance(backbone, StoredBackbone)
    weights = backbone._read_encoder()
    assert weights.keys() == {name for name in backbone.model.state_dict() if name.startswith("vjepa2.encoder.")}
    assert all(torch.equal(weight, backbone.model.state_dict()[name]) for name, weight in weights.items())


def test_a_note_is_no_reason_to_take_a_head_that_is_no_number(folder: Path) -> None:
    open_folder(folder)
    checkpoint = locate_copy(folder)
    change_weights(folder, "pooler.query_tokens", float("nan"))
    with pytest.raises(UserError, match=r"pooler\.query_tokens holds values that are no numbers"):
        open_checkpoint(checkpoint, LABELS, seed=0, device=CPU)


@pytest.mark.parametrize("part", ["pooler.", "pooler.query_tokens"])
def test_a_pooler_that_is_drawn_is_drawn_as_when_all_is_loaded(folder: Path, part: str) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: weight for name, weight in weights.items() if not name.startswith(part)}, folder / "model.safetensors"
    )
    assert same(open_folder(folder, seed=2), open_folder(folder, seed=2))
    assert not torch.equal(
        open_folder(folder, seed=2).head.pooler.query_tokens, open_folder(folder, seed=4).head.pooler.query_tokens
    )


def test_a_cache_that_cannot_be_written_only_costs_time(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert same(open_folder(folder), open_folder(folder))


def test_nothing_is_noted_where_nothing_is_kept_on_disk(folder: Path, tmp_path: Path) -> None:
    checkpoint = from_folder("copy", folder, cache_dir=model_cache_dir("off"))
    first, again = (open_checkpoint(checkpoint, LABELS, seed=0, device=CPU) for _ in range(2))
    assert same(first, again)
    assert not list(tmp_path.glob("cache/*"))
