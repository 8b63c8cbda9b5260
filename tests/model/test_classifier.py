import json
import os
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
    drawn_anew,
    from_folder,
    load_classifier,
    load_processor,
    load_trained,
    locate,
    quiet_transformers,
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
        assert torch.equal(Head.of(model)(features), model(pixel_values_videos=pixels).logits)


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


@pytest.fixture
def stored(copied: Path) -> dict[str, torch.Tensor]:
    return load_file(copied / "model.safetensors")


def put(folder: Path, weights: dict[str, torch.Tensor], name: str = "model.safetensors") -> None:
    save_file(weights, folder / name, metadata={"format": "pt"})


def without(weights: dict[str, torch.Tensor], *prefixes: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("lacking", "drawn"),
    [
        ((), ["classifier"]),
        (("classifier.",), ["classifier"]),
        (("pooler.", "classifier."), ["pooler", "classifier"]),
        (("pooler.query", "classifier."), ["parts of the pooler", "classifier"]),
        (("pooler.", "classifier.", "vjepa2.predictor."), ["pooler", "classifier"]),
    ],
)
def test_what_is_drawn_is_said_and_what_transformers_draws(
    copied: Path, stored: dict[str, torch.Tensor], lacking: tuple[str, ...], drawn: list[str]
) -> None:
    put(copied, without(stored, *lacking) if lacking else stored)
    checkpoint = from_folder("base", copied)
    assert drawn_anew(checkpoint, LABELS) == drawn
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = VJEPA2ForVideoClassification.from_pretrained(
            copied, num_labels=3, ignore_mismatched_sizes=True, dtype=torch.float32
        )
    weights = load_classifier(checkpoint, LABELS, seed=3).state_dict()
    for name, tensor in without(expected.state_dict(), "classifier.").items():
        assert torch.equal(weights[name], tensor), name


def test_nothing_is_drawn_for_the_labels_that_a_checkpoint_has(checkpoint: Checkpoint) -> None:
    labels = list(load_trained(checkpoint.folder).config.id2label.values())
    assert drawn_anew(checkpoint, labels) == []
    assert drawn_anew(checkpoint, labels[::-1]) == ["classifier"]


def test_a_classifier_that_lacks_something_is_drawn(copied: Path, stored: dict[str, torch.Tensor]) -> None:
    put(copied, without(stored, "classifier.bias"))
    base = from_folder("base", copied)
    labels = list(load_trained(locate("tiny").folder).config.id2label.values())
    assert drawn_anew(base, labels) == ["classifier"]
    assert not torch.equal(load_classifier(base, labels, seed=0).classifier.weight, stored["classifier.weight"])


@pytest.mark.parametrize("form", ["index", "no index", "links", "bare", "fp16 and fp64", "integers beside"])
def test_a_base_checkpoint_has_many_forms(
    checkpoint: Checkpoint, copied: Path, stored: dict[str, torch.Tensor], form: str, tmp_path: Path
) -> None:
    half = {name: tensor for number, (name, tensor) in enumerate(stored.items()) if number % 2}
    other = {name: tensor for name, tensor in stored.items() if name not in half}
    folder = copied
    if form in ("index", "no index"):
        (copied / "model.safetensors").unlink()
        for name, weights in (("model-1-of-2.safetensors", half), ("model-2-of-2.safetensors", other)):
            put(copied, weights, name)
        if form == "index":
            write_index(copied, {name: f"model-{1 if name in half else 2}-of-2.safetensors" for name in stored})
            put(copied, {"vjepa2.encoder.layernorm.bias": torch.zeros(3)}, "another.safetensors")
    elif form == "links":
        folder = tmp_path / "snapshots/0123"
        folder.mkdir(parents=True)
        for path in copied.iterdir():
            (folder / path.name).symlink_to(f"../../copy/{path.name}")
    elif form == "bare":
        put(copied, {name.removeprefix("vjepa2."): tensor for name, tensor in stored.items() if "vjepa2." in name})
    elif form == "fp16 and fp64":
        put(copied, {name: tensor.double() if name in half else tensor for name, tensor in stored.items()})
    else:
        put(copied, {**stored, "position_ids": torch.arange(4)})
    expected = load_classifier(checkpoint, LABELS, seed=0).state_dict()
    weights = load_classifier(from_folder("base", folder), LABELS, seed=0).state_dict()
    for name in expected:
        if not name.startswith("pooler.") or form != "bare":
            assert torch.equal(weights[name], expected[name]), name


def write_index(folder: Path, files: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a": "model-2.safetensors"}, "model-2.safetensors, which model.safetensors.index.json names, is not there"),
        (
            {"a": "../other.safetensors"},
            "model.safetensors.index.json names '../other.safetensors': expected files in its folder",
        ),
        ({"a": 3}, "model.safetensors.index.json names 3: expected files in its folder"),
        ([], "model.safetensors.index.json cannot be read .*: expected an index"),
    ],
)
def test_an_index_that_leads_nowhere_is_refused(copied: Path, files: object, sentence: str) -> None:
    (copied / "model.safetensors").rename(copied / "model-1.safetensors")
    write_index(copied, files)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"model=base: {sentence}"):
        from_folder("base", copied)


def test_a_tensor_in_two_files_is_refused(copied: Path, stored: dict[str, torch.Tensor]) -> None:
    (copied / "model.safetensors").unlink()
    for number in range(2):
        put(copied, stored, f"{number}.safetensors")
    with pytest.raises(UserError, match=r"is in 0.safetensors and 1.safetensors: expected it in one of them"):
        load_classifier(from_folder("base", copied), LABELS, seed=0)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("vjepa2.encoder.layer.0.mlp.fc1.weight", True),
        ("pooler.query_tokens", True),
        ("classifier.weight", False),  # drawn anew
        ("vjepa2.predictor.layernorm.bias", False),  # which nobody uses
    ],
)
def test_base_weights_that_are_no_numbers_are_refused_where_they_are_used(
    copied: Path, stored: dict[str, torch.Tensor], name: str, refused: bool
) -> None:
    stored[name].view(-1)[0] = torch.inf
    put(copied, stored)
    base = from_folder("base", copied)
    if not refused:
        assert all(weight.isfinite().all() for weight in Head.of(load_classifier(base, LABELS, seed=0)).parameters())
        return
    with pytest.raises(UserError, match=f"model=base: {name} holds values that are no numbers: expected finite"):
        load_classifier(base, LABELS, seed=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_hidden_layers": 3}, "no place for, such as vjepa2.encoder.layer.3"),
        ({"num_hidden_layers": 5}, "weights missing or of another shape, such as vjepa2.encoder.layer.4"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers=1000000: expected a whole number from 1 to 512"),
        ({"num_pooler_layers": 500}, "num_pooler_layers=500: expected 0, as many as its weights have"),
        ({"pred_num_hidden_layers": 2}, "pred_num_hidden_layers=2: expected 1, as many as its weights have"),
        ({"pred_hidden_size": 16384, "pred_mlp_ratio": 16}, "would be drawn anew: expected at most"),
        ({"id2label": {"0": "a", "1": "a"}}, "id2label='a': expected a text"),
    ],
)
def test_a_configuration_that_its_weights_do_not_fit_is_refused(
    copied: Path, change: dict[str, object], sentence: str
) -> None:
    edit_json(copied / "config.json", **change)
    with pytest.raises(UserError, match=sentence):
        load_classifier(from_folder("base", copied), LABELS, seed=0)


def test_a_trained_checkpoint_is_whole_or_refused(copied: Path, stored: dict[str, torch.Tensor]) -> None:
    digest = from_folder("trained", copied, whole=True).revision.removeprefix("sha256:")
    noted = {"model.safetensors": digest}
    trained = from_folder("trained", copied, whole=True, weights_sha256=noted)
    expected = load_classifier(from_folder("base", copied), LABELS, seed=0).state_dict()
    weights = load_classifier(trained, LABELS, seed=0).state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    put(copied, without(stored, "pooler.query"))
    with pytest.raises(UserError, match="model=trained: its weights were changed after they were saved"):
        from_folder("trained", copied, whole=True, weights_sha256=noted)
    with pytest.raises(UserError, match=r"1 of its weights do not fit .*pooler.query_tokens, is missing: expected the"):
        load_classifier(from_folder("trained", copied, whole=True), LABELS, seed=0)


@pytest.mark.parametrize("name", ["config.json", "video_preprocessor_config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for(copied: Path, name: str) -> None:
    (copied / name).unlink()
    os.mkfifo(copied / name)
    with pytest.raises(UserError, match=r"model=.*not a file"):
        load_processor(from_folder("base", copied))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
