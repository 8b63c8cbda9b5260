"""Snapshots of a training: the memory and the files that they lie in."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import Clips, Evaluation, Training, passes_of, tiny_model, train_with_dropout

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.training import HostMemory, Snapshot, TrainingState, fit, load_best, read_snapshot


def test_memory_that_is_used_again_holds_the_newest_state(tmp_path: Path) -> None:
    memory = HostMemory()
    paths = [tmp_path / "again.safetensors", tmp_path / "new.safetensors"]
    places: list[dict[str, int]] = []

    def compare(state: TrainingState) -> None:
        snapshots = state.snapshot(memory), state.snapshot()
        for snapshot, path in zip(snapshots, paths, strict=True):
            snapshot.write(path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        kept = snapshots[0].tensors
        places.append({name: kept[name].data_ptr() for name in kept if name.startswith(("head", "best", "optimizer"))})

    train_with_dropout(compare)
    assert all(used.items() <= places[-1].items() for used in places)


def test_the_best_heads_weights_are_copied_once_for_each_best_epoch() -> None:
    memory = HostMemory()
    for best_epoch, value, expected in ((1, 1.0, 1.0), (1, 2.0, 1.0), (3, 3.0, 3.0)):
        tensors = {"best.weight": torch.full((2,), value), "head.weight": torch.full((2,), value)}
        copies = memory.copy(tensors, best_epoch=best_epoch)
        assert copies["best.weight"].tolist() == [expected] * 2
        assert copies["head.weight"].tolist() == [value] * 2


def test_a_tensor_of_another_shape_or_type_gets_memory_of_its_own() -> None:
    memory = HostMemory()
    first = memory.copy({"outputs.labels": torch.tensor([1, 2])}, best_epoch=0)["outputs.labels"]
    for tensor in (torch.tensor([3, 4, 5]), torch.tensor([0.5, 1.5, 2.5])):
        assert torch.equal(memory.copy({"outputs.labels": tensor}, best_epoch=0)["outputs.labels"], tensor)
    assert first.tolist() == [1, 2]


def test_a_file_holds_what_was_written_whatever_its_type_and_shape(tmp_path: Path) -> None:
    tensors = {
        "random.cpu": torch.arange(5, dtype=torch.uint8),  # what is not aligned comes last
        "head.weight": torch.randn(3, 7).T,
        "optimizer.0.step": torch.tensor(4.0),
        "outputs.labels": torch.tensor([2**40, -1]),
    }
    about = {"epochs": [{"val_loss": 0.1}], "best_epoch": 1, "steps": 7, "begun": {"windows": 2}}
    Snapshot(tensors, json.dumps(about)).write(tmp_path / "state.safetensors")
    snapshot = read_snapshot(tmp_path / "state.safetensors")
    assert snapshot.tensors.keys() == tensors.keys()
    assert all(torch.equal(snapshot.tensors[name], tensor) for name, tensor in tensors.items())
    assert snapshot.part("optimizer").keys() == {"0.step"}
    assert (snapshot.epochs, snapshot.best_epoch) == ([{"val_loss": 0.1}], 1)
    assert (snapshot.steps, snapshot.steps_of_open_epoch) == (7, 2)


def test_a_file_that_ends_too_early_is_refused_wherever_that_is(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    Snapshot({"head.weight": torch.randn(4)}, "{}").write(path)
    content = path.read_bytes()
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=rf"^{path}: cannot be read as a training state"):
            read_snapshot(path)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_state_that_was_tampered_with_is_refused(tmp_path: Path, place: float) -> None:
    model = tiny_model()
    clips = Clips(model)
    sets: Any = {"train": Training(clips), "val": Evaluation(clips)}
    path = tmp_path / "state.safetensors"
    recipe = Recipe(epochs=1)
    fit(passes_of(model), **sets, recipe=recipe, on_epoch=lambda state: state.snapshot().write(path))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path}: (was changed after it was written|cannot be read)"):
        fit(passes_of(model), **sets, recipe=recipe, on_epoch=lambda _: None, resume=read_snapshot(path))


@pytest.mark.parametrize("content", [b"", b"no safetensors", None])
def test_a_state_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path}: cannot be read as a training state \("):
        load_best(path)
