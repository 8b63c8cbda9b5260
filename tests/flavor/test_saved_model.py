import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from helpers import environment
from safetensors.torch import load_file, save_file
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow import UserError, flavor
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.flavor.loading import _load_pyfunc
from vjepa_mlflow.model import load_classifier, load_processor, locate

BACKBONE, WEIGHTS = (f"checkpoint/model-0000{number}-of-00002.safetensors" for number in (1, 2))
"""The second has the head."""

INDEX = "checkpoint/model.safetensors.index.json"
CONFIG = "checkpoint/config.json"
ONE_FILE = "checkpoint/model.safetensors"
"""Before format 6."""

PROCESSOR = "checkpoint/video_preprocessor_config.json"

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = locate("tiny")
    path = tmp_path_factory.mktemp("saved") / "model"
    flavor.save_model(load_classifier(checkpoint, ["ape", "bee"], seed=0), load_processor(checkpoint), path, stride=4)
    return path


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model", ignore=shutil.ignore_patterns("code")))


def write(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def ours(**changes: object) -> Damage:
    """Changes of what `MLmodel` says in this project's flavour."""
    return lambda folder: edit_mlmodel(folder, vjepa_mlflow=changes)


def served(**changes: object) -> Damage:
    return lambda folder: edit_mlmodel(folder, python_function=changes)


def edit_mlmodel(folder: Path, **flavors: dict) -> None:
    said = yaml.safe_load((folder / "MLmodel").read_text())
    for name, changes in flavors.items():
        said["flavors"][name].update(changes)
    (folder / "MLmodel").write_text(yaml.safe_dump(said))


def without_key(name: str) -> Damage:
    def damage(folder: Path) -> None:
        said = yaml.safe_load((folder / "MLmodel").read_text())
        del said["flavors"]["vjepa_mlflow"][name]
        (folder / "MLmodel").write_text(yaml.safe_dump(said))

    return damage


def edit_json(name: str, **changes: object) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def replace_weights(change: Callable[[dict], object], name: str = WEIGHTS) -> Damage:
    """Weights that were changed and whose digest was noted again: it is not what finds them."""

    def damage(folder: Path) -> None:
        weights = load_file(folder / name)
        change(weights)
        save_file(weights, folder / name, metadata={"format": "pt"})
        edit_mlmodel(folder, vjepa_mlflow={"weights_sha256": digests(folder)})

    return damage


def digests(folder: Path) -> dict[str, str]:
    return {Path(name).name: sha256([folder / name]) for name in (BACKBONE, WEIGHTS)}


def join(folder: Path) -> None:
    """As a package before format 6 saved it: with all weights in one file."""
    weights = {name: one for file in (BACKBONE, WEIGHTS) for name, one in load_file(folder / file).items()}
    for file in (BACKBONE, WEIGHTS, INDEX):
        (folder / file).unlink()
    save_file(weights, folder / ONE_FILE, metadata={"format": "pt"})
    ours(format_version=5, weights_sha256=sha256([folder / ONE_FILE]))(folder)


def age(folder: Path) -> None:
    """As a package before format 5 saved it: without a digest."""
    join(folder)
    without_key("weights_sha256")(folder)
    ours(format_version=4)(folder)


def aged(change: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        replace_weights(change, BACKBONE)(folder)
        age(folder)

    return damage


def fill(value: float) -> Callable[[dict], object]:
    return lambda weights: weights["vjepa2.encoder.layernorm.bias"].__setitem__(0, value)


def append(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + content)


def header(folder: Path) -> dict:
    content = (folder / WEIGHTS).read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def with_header(change: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        content, said = (folder / WEIGHTS).read_bytes(), header(folder)
        change(said)
        text = json.dumps(said).encode()
        old = 8 + int.from_bytes(content[:8], "little")
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[old:])

    return damage


DAMAGES: dict[str, tuple[Damage, str]] = {
    "no MLmodel": (lambda folder: (folder / "MLmodel").unlink(), "there is no MLmodel: expected a model"),
    "no YAML": (write("MLmodel", "a: [b"), "MLmodel cannot be read .*: expected a model"),
    "a value of no such type": (write("MLmodel", "a: !!bool zz"), "MLmodel cannot be read"),
    "a number of no digits": (write("MLmodel", "a: !!int ''"), "MLmodel cannot be read"),
    "no text": (write("MLmodel", b"\xff\xfe\x00"), "MLmodel cannot be read"),
    "nested": (write("MLmodel", "[" * 10000), "MLmodel cannot be read"),
    "objects": (write("MLmodel", "!!python/object/apply:os.getcwd []"), "MLmodel cannot be read"),
    "a list": (write("MLmodel", "[1, 2]"), "MLmodel says nothing by name"),
    "empty": (write("MLmodel", ""), "MLmodel says nothing by name"),
    "large": (write("MLmodel", "a: b\n" * (1 << 18)), "MLmodel cannot be read .larger than 1 MiB"),
    "within itself": (write("MLmodel", "a: &a [*a]"), "MLmodel cannot be read .too much in it"),
    "many times": (
        write("MLmodel", "a0: &a0 [0]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 99))),
        "MLmodel cannot be read .too much in it",
    ),
    "many digits": (write("MLmodel", "a: 0x" + "f" * 100_000), "MLmodel cannot be read .too much in it"),
    "flavors": (write("MLmodel", "flavors: 3"), "MLmodel has no flavour vjepa_mlflow: expected a model"),
    "another loader": (served(loader_module="evil"), "loader_module='evil': expected vjepa_mlflow.flavor"),
    "no loader": (served(loader_module=None), "loader_module=None: expected"),
    "no version": (without_key("format_version"), "format_version=None: expected a whole number"),
    "version 0": (ours(format_version=0), "format_version=0: expected a whole number from 1"),
    "version true": (ours(format_version=True), "format_version=True: expected"),
    "version text": (ours(format_version="5"), "format_version='5': expected"),
    "newer": (ours(format_version=99), "saved in format 99: expected at most"),
    "no checkpoint": (without_key("checkpoint"), "checkpoint=None: expected a text"),
    "elsewhere": (ours(checkpoint="/etc"), "checkpoint='/etc': expected a folder in the model's"),
    "above": (ours(checkpoint=".."), r"\.\.: it lies outside the model's folder"),
    "nowhere": (ours(checkpoint="gone"), "checkpoint='gone': expected a folder in the model's"),
    "a null": (ours(checkpoint="a\0b"), "checkpoint=.*: expected a folder in the model's"),
    "no stride": (without_key("stride"), "stride=None: expected a whole number from 1"),
    "stride 0": (ours(stride=0), "stride=0: expected a whole number from 1"),
    "stride 2.5": (ours(stride=2.5), "stride=2.5: expected a whole number"),
    "rate nan": (ours(frames_per_second=float("nan")), "frames_per_second=nan: expected a number from 0"),
    "rate -1": (ours(frames_per_second=-1.0), "frames_per_second=-1.0: expected a number from 0"),
    "rate text": (ours(frames_per_second="fast"), "frames_per_second='fast': expected a number"),
    "no digest": (without_key("weights_sha256"), "weights_sha256=None: expected a text for each"),
    "no digests": (ours(weights_sha256={}), "weights_sha256={}: expected a text for each"),
    "one digest": (ours(weights_sha256="5" * 64), "weights_sha256='5.*: expected names and values"),
    "no text for one": (ours(weights_sha256={"a": 5}), "weights_sha256={'a': 5}: expected a text for each"),
    "no digest in format 5": (ours(format_version=5, weights_sha256=None), "weights_sha256=None: expected a text"),
    "a digest less": (
        lambda folder: ours(weights_sha256={Path(WEIGHTS).name: sha256([folder / WEIGHTS])})(folder),
        "its weights were changed after they were saved: expected the files that were saved",
    ),
    "serving": (served(config=[1]), r"config=\[1\]: expected names and values"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "no config.json in"),
    "config": (write(CONFIG, "{"), "config.json in .* is not a model configuration"),
    "config nested": (write(CONFIG, "[" * 100_000), "config.json in .* is not a model configuration"),
    "another kind": (edit_json(CONFIG, model_type="bert"), "model type 'bert': expected a V-JEPA 2"),
    "a million layers": (edit_json(CONFIG, num_hidden_layers=10**6), "num_hidden_layers=1000000: expected a whole"),
    "many layers": (edit_json(CONFIG, num_hidden_layers=400), r"weights do not fit its config.json.* is missing"),
    "few layers": (edit_json(CONFIG, num_hidden_layers=3), r"weights do not fit.*layer.3.*expected no such tensor"),
    "predictor layers": (edit_json(CONFIG, pred_num_hidden_layers=2), "weights do not fit its config.json"),
    "wider": (edit_json(CONFIG, hidden_size=288), r"has the shape .*: expected the shape"),
    "huge": (edit_json(CONFIG, hidden_size=10**12), "hidden_size=1000000000000: expected a whole number from 1"),
    "heads": (
        edit_json(CONFIG, num_attention_heads=5),
        "hidden_size=144: expected a multiple of num_attention_heads=5",
    ),
    "no heads": (edit_json(CONFIG, num_attention_heads=0), "num_attention_heads=0: expected"),
    "text": (edit_json(CONFIG, hidden_size="144"), "hidden_size='144': expected a whole number"),
    "not finite": (edit_json(CONFIG, layer_norm_eps=float("nan")), "layer_norm_eps=nan: expected a number"),
    "ratio": (edit_json(CONFIG, mlp_ratio=float("inf")), "mlp_ratio=inf: expected a number"),
    "activation": (edit_json(CONFIG, hidden_act="zork"), "hidden_act=zork: expected one of .*gelu"),
    "patches": (edit_json(CONFIG, patch_size=0), "patch_size=0: expected"),
    "frames": (edit_json(CONFIG, frames_per_clip=60_000), "frames_per_clip='60000x64x64': expected frames of a clip"),
    "crop": (edit_json(CONFIG, crop_size=8000), "frames_per_clip='16x8000x8000': expected frames of a clip"),
    "grey": (edit_json(CONFIG, in_chans=1), "in_chans=1: expected"),
    "no labels": (edit_json(CONFIG, id2label={}), "id2label={}: expected a text for each number"),
    "labels": (edit_json(CONFIG, id2label={"0": "ape", "2": "bee"}), "id2label of 1=None: expected a text"),
    "same labels": (edit_json(CONFIG, id2label={"0": "ape", "1": "ape"}), "id2label='ape': .*not this one 2 times"),
    "one label": (edit_json(CONFIG, id2label={"0": "ape"}), "one class: expected two or more"),
    "half a letter": (edit_json(CONFIG, id2label={"0": "ape", "1": "\ud800"}), "id2label=.*: expected a text"),
    "more labels": (edit_json(CONFIG, id2label={"0": "a", "1": "b", "2": "c"}), "the first, classifier.bias, has the"),
    "no processor": (lambda folder: (folder / PROCESSOR).unlink(), "no video_preprocessor_config.json"),
    "processor": (write(PROCESSOR, "[]"), "video_preprocessor_config.json in .* is not a model configuration"),
    "deviation": (edit_json(PROCESSOR, image_std=[0.2, 0, 0.2]), "image_std=0: expected a number from"),
    "mean": (edit_json(PROCESSOR, image_mean=[0.2, float("nan"), 0.2]), "image_mean=nan: expected a number"),
    "channels": (edit_json(PROCESSOR, image_mean=[0.2]), r"image_mean=\[0.2\]: expected three numbers"),
    "filter": (edit_json(PROCESSOR, resample=77), "resample=77: expected one of"),
    "scale": (edit_json(PROCESSOR, rescale_factor=0), "rescale_factor=0: expected a number"),
    "no crop": (edit_json(PROCESSOR, do_center_crop=False), "do_center_crop=False: expected true"),
    "small crop": (edit_json(PROCESSOR, crop_size={"height": 8, "width": 64}), "crop_size.height=8: expected"),
    "large crop": (edit_json(PROCESSOR, crop_size=8000), "crop_size='16x8000x8000': expected frames of a clip"),
    "half a crop": (edit_json(PROCESSOR, crop_size={"height": 64}), "crop_size.width=None: expected"),
    "no weights": (
        lambda folder: [path.unlink() for path in (folder / "checkpoint").glob("*.safetensors")],
        "no .safetensors weights in",
    ),
    "no head": (lambda folder: (folder / WEIGHTS).unlink(), "00002.safetensors, which .* names, is not there"),
    "no backbone": (lambda folder: (folder / BACKBONE).unlink(), "00001-of-00002.safetensors, which .* is not there"),
    "index": (write(INDEX, "{"), "model.safetensors.index.json cannot be read"),
    "another file": (
        lambda folder: shutil.copy(folder / WEIGHTS, folder / ONE_FILE),
        r"weights do not fit its config.json, the first, vjepa2.* is missing",
    ),
    "the same twice": (
        lambda folder: shutil.copy(folder / WEIGHTS, folder / BACKBONE),
        "is in model-00001-of-00002.safetensors and model-00002-of-00002.safetensors: expected it in one",
    ),
    "no tensors": (replace_weights(dict.clear), r"weights do not fit its config.json, the first, .* is missing"),
    "one less": (replace_weights(lambda found: found.pop("pooler.query_tokens")), "pooler.query_tokens, is missing"),
    "one more": (
        replace_weights(lambda found: found.update(other=torch.zeros(1))),
        "1 of its weights do.*the first, other, has the shape .*: expected no such tensor",
    ),
    "integers": (
        replace_weights(lambda found: found.update({"classifier.bias": torch.zeros(2, dtype=torch.int32)})),
        "classifier.bias is of I32: expected one of",
    ),
    "longer": (append(WEIGHTS, b"\0"), "00002.safetensors: .*bytes: expected .*as its header says"),
    "cut off": (lambda folder: os.truncate(folder / WEIGHTS, 50_000), "00002.safetensors: "),
    "empty weights": (write(WEIGHTS, b""), "00002.safetensors: a header of 0 bytes"),
    "large header": (write(WEIGHTS, b"\xff" * 64), "a header of .* bytes in a file of 64: expected a whole"),
    "no header": (write(WEIGHTS, (8).to_bytes(8, "little") + b"[1, 2]  "), "a header that is no JSON"),
    "nested header": (
        write(WEIGHTS, (100_000).to_bytes(8, "little") + b"[" * 100_000),
        "a header that is no JSON: expected a .safetensors file",
    ),
    "overlap": (
        with_header(lambda said: said["classifier.bias"].update(data_offsets=[8, 16])),
        "00002.safetensors: .* lies at byte .*: expected",
    ),
    "too many dimensions": (
        with_header(lambda said: said["classifier.bias"].update(shape=[9] * 200_000)),
        "classifier.bias: expected a format, a shape",
    ),
    "shape": (
        with_header(lambda said: said["classifier.bias"].update(shape=[-2])),
        "classifier.bias: expected a format, a shape and a place that fit each other",
    ),
    "a value": (
        lambda folder: flip(folder / WEIGHTS),
        "its weights were changed after they were saved: expected the files that were saved",
    ),
    "a value of the backbone": (
        lambda folder: flip(folder / BACKBONE),
        "its weights were changed after they were saved: expected the files that were saved",
    ),
    "a value in format 5": (
        lambda folder: (join(folder), flip(folder / ONE_FILE)),
        "its weights were changed after they were saved: expected the files that were saved",
    ),
    "nan before 5": (aged(fill(float("nan"))), "vjepa2.encoder.layernorm.bias holds values that are no numbers"),
    "inf before 5": (aged(fill(float("-inf"))), "vjepa2.encoder.layernorm.bias holds values that are no numbers"),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_model_is_refused_in_a_sentence(copied: Path, kind: str) -> None:
    damage, sentence = DAMAGES[kind]
    damage(copied)
    with pytest.raises(UserError, match=sentence) as refused:
        flavor.load_model(str(copied))
    assert str(refused.value).startswith(f"{copied}: ")
    assert ": expected " in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError):
        _load_pyfunc(str(copied))


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_older_formats_are_read_bit_for_bit(saved: Path, copied: Path, version: int) -> None:
    join(copied) if version == 5 else age(copied)
    ours(format_version=version)(copied)
    if version < 4:
        without_key("frames_per_second")(copied)
    if version < 2:
        served(config=None)(copied)
    before, now = (flavor.load_model(str(folder)) for folder in (saved, copied))
    assert (now.stride, now.frames_per_second) == (4, 0)
    weights = now.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in before.model.state_dict().items())


def test_a_model_of_the_first_format_is_served_with_the_defaults(copied: Path, clip: bytes) -> None:
    age(copied)
    ours(format_version=1)(copied)
    served(config=None)(copied)
    (found,) = flavor.make_video_classifier(flavor.fetch_model(str(copied))).classify([clip], num_clips=1)
    assert found.probabilities is not None


def test_a_saved_model_is_what_transformers_would_load(saved: Path) -> None:
    expected = VJEPA2ForVideoClassification.from_pretrained(saved / "checkpoint", dtype=torch.float32)
    processor = VJEPA2VideoProcessor.from_pretrained(saved / "checkpoint")
    loaded = flavor.load_model(str(saved))
    weights = loaded.model.state_dict()
    assert {name: weights[name].dtype for name in weights} == dict.fromkeys(expected.state_dict(), torch.float32)
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.state_dict().items())
    told, known = loaded.model.config.to_dict(), expected.config.to_dict()
    assert {name for name in known if told[name] != known[name]} <= {"architectures"}
    assert loaded.processor.to_dict() == processor.to_dict()
    assert not loaded.model.training


@pytest.mark.parametrize(
    "name", ["MLmodel", WEIGHTS, BACKBONE, INDEX, CONFIG, PROCESSOR, "checkpoint", "checkpoint/seen_videos.json"]
)
@pytest.mark.parametrize("target", ["outside", "pipe", "loop"])
def test_nothing_lies_outside_a_models_folder(copied: Path, tmp_path: Path, name: str, target: str) -> None:
    entry = copied / name
    if entry.exists():
        entry.rename(tmp_path / "moved")
    else:
        (tmp_path / "moved").write_text("{}")
    if target == "pipe":
        os.mkfifo(entry)
    else:
        entry.symlink_to(tmp_path / "moved" if target == "outside" else entry)
    with pytest.raises(UserError, match=": expected "):
        flavor.load_model(str(copied))


def test_links_within_a_models_folder_and_to_it_are_followed(copied: Path, tmp_path: Path) -> None:
    (copied / "checkpoint").rename(copied / "weights")
    (copied / "checkpoint").symlink_to("weights")
    (tmp_path / "link").symlink_to(copied)
    os.link(copied / WEIGHTS, tmp_path / "hard")
    assert flavor.load_model(str(tmp_path / "link")).stride == 4


@pytest.mark.parametrize("weights", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_saved(saved: Path, tmp_path: Path, weights: float) -> None:
    loaded = flavor.load_model(str(saved))
    with torch.no_grad():
        loaded.model.pooler.query_tokens[0, 0, 0] = weights
    with pytest.raises(UserError, match=r"pooler.query_tokens holds values that are no numbers: expected finite"):
        flavor.save_model(loaded.model, loaded.processor, tmp_path / "new", stride=4)
    assert not (tmp_path / "new").exists()


def test_a_sampling_that_could_not_be_read_back_is_not_saved(saved: Path, tmp_path: Path) -> None:
    loaded = flavor.load_model(str(saved))
    with pytest.raises(UserError, match="stride=0: expected a whole number"):
        flavor.save_model(loaded.model, loaded.processor, tmp_path / "new", stride=0)


BROUGHT = ("transformers", "torch", "mlflow", "vjepa_mlflow", "yaml", "evil")
"""Names of modules that a model brings, each of which leaves a mark where it is run."""


@pytest.fixture
def evil(copied: Path, tmp_path: Path) -> Path:
    """A model that is whole, with code that must not be run."""
    (copied / "code").mkdir()
    for name in BROUGHT:
        (copied / "code" / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    served(python_model="python_model.pkl", cloudpickle_version="3.0", data="code")(copied)
    own = {"AutoConfig": "evil.Config", "AutoModelForVideoClassification": "evil.Model"}
    edit_json(CONFIG, auto_map=own, transformers_weights="evil", quantization_config={"quant_method": "awq"})(copied)
    edit_json(CONFIG, attn_implementation="evil/kernel", _attn_implementation="evil/kernel", dtype="evil")(copied)
    edit_json(PROCESSOR, auto_map={"AutoVideoProcessor": "evil.Processor"}, device="evil", do_sample_frames=True)(
        copied
    )
    (copied / "checkpoint/adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "evil/base", "peft_type": "LORA"})
    )
    (copied / "python_model.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    return copied


def test_code_in_a_models_folder_is_not_run(evil: Path, tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip)
    program = (
        "import sys\n"
        "from vjepa_mlflow import load_model\n"
        "from vjepa_mlflow.cli import main\n"
        "assert load_model(sys.argv[1]).model.config.frames_per_clip == 16\n"
        "main(['predict', sys.argv[1], sys.argv[2]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(evil), str(tmp_path / "clip.mp4")],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "clip.mp4  " in done.stdout
    assert not (tmp_path / "mark").exists()


def test_mlflows_own_loader_uses_that_code(evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What README says of it."""
    served(loader_module="evil", data="code", code="code")(evil)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    with pytest.raises(AttributeError):
        mlflow.pyfunc.load_model(str(evil))
    assert (tmp_path / "mark").exists()


def test_the_environment_changes_values_of_serving(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = flavor.fetch_model(str(saved))
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", json.dumps({"precision": "fp8", "other": 1}))
    with pytest.raises(UserError, match="precision=fp8: expected one of"):
        flavor.make_video_classifier(fetched)
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", "[")
    with pytest.raises(UserError, match=r"MLFLOW_PYFUNC_INFERENCE_CONFIG=\[: expected names and values in JSON"):
        flavor.make_video_classifier(fetched)
