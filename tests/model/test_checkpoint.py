import json
import shutil
from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.model import choose, locate
from vjepa_mlflow.model.checkpoint import BASE


@pytest.mark.parametrize(
    ("model", "demo", "chosen"),
    [("auto", True, "tiny"), ("auto", False, BASE), ("tiny", False, "tiny"), ("some/model", True, "some/model")],
)
def test_auto_is_tiny_for_the_demo_and_the_cards_checkpoint_otherwise(model: str, demo: bool, chosen: str) -> None:
    assert choose(model, demo=demo) == chosen


def test_the_tiny_checkpoint_is_a_plain_folder() -> None:
    checkpoint = locate("tiny")
    assert checkpoint.name == "tiny"
    assert checkpoint.frames_per_clip == 16
    assert checkpoint.revision == locate(str(checkpoint.folder)).revision
    assert checkpoint.revision.startswith("sha256:")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("./nowhere", "model=./nowhere: no such folder: expected a Hub id"),
        ("/nowhere/at/all", "model=/nowhere/at/all: no such folder"),
        ("no-such-model-anywhere", "model=no-such-model-anywhere: not "),
        ("too/many/parts", "model=too/many/parts: not found on the Hub"),
    ],
)
def test_unknown_models_are_named(model: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=reason) as caught:
        locate(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "no config.json"),
        ("{", "is not a model configuration"),
        ("[]", "is not a model configuration"),
        (json.dumps({"model_type": "bert"}), "model type 'bert': expected a V-JEPA 2 checkpoint"),
        (json.dumps({"model_type": "vjepa2"}), "no .safetensors weights"),
    ],
)
def test_folders_that_hold_no_vjepa2_are_refused(tmp_path: Path, config: str | None, reason: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=reason):
        locate(str(tmp_path))


def test_a_hub_id_is_found_with_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the Hub's own cache layout, since tests have no network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--vjepa2-small"
    shutil.copytree(locate("tiny").folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    checkpoint = locate("someone/vjepa2-small")
    assert (checkpoint.name, checkpoint.revision) == ("someone/vjepa2-small", commit)
    assert checkpoint.frames_per_clip == 16
