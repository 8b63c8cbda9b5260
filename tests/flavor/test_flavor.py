import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import environment
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.environment import _process_pip_requirements
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow import UserError, flavor
from vjepa_mlflow.data import draw_clip
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.flavor import saving
from vjepa_mlflow.model import load_classifier, load_processor, locate
from vjepa_mlflow.video import Sampling, read_clip

LABELS = [f"class {letter}" for letter in "abcdefg"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = locate("tiny")
    path = tmp_path_factory.mktemp("saved") / "model"
    flavor.save_model(
        load_classifier(checkpoint, LABELS, seed=0),
        load_processor(checkpoint),
        path,
        stride=4,
        input_example=flavor.example_input(flavor.example_video()),
    )
    return path


@pytest.fixture(scope="module")
def served(saved: Path) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(saved))


def test_a_saved_model_is_self_contained_and_holds_no_pickle(saved: Path) -> None:
    files = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert {
        "MLmodel",
        "checkpoint/config.json",
        "checkpoint/model.safetensors.index.json",
        "checkpoint/video_preprocessor_config.json",
        "code/vjepa_mlflow.py",
        "code/vjepa_mlflow.zip",
        "requirements.txt",
        "input_example.json",
    } <= files
    assert not [name for name in files if Path(name).suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin", ".pyc"}]
    weights_files = sorted((saved / "checkpoint").glob("*.safetensors"))
    assert [path.name for path in weights_files] == [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    weights = sum(path.stat().st_size for path in weights_files)
    whole = sum(path.stat().st_size for path in saved.rglob("*") if path.is_file())
    assert weights < Model.load(saved).model_size_bytes <= whole
    configuration = yaml.safe_load((saved / "MLmodel").read_text())["flavors"]["vjepa_mlflow"]
    assert configuration == {
        "format_version": 6,
        "checkpoint": "checkpoint",
        "stride": 4,
        "frames_per_second": 0.0,
        "weights_sha256": {path.name: sha256([path]) for path in weights_files},
        "code": "code",
    }
    requirements = (saved / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in requirements} == set(saving._REQUIRED)
    assert all("==" in line and "+" not in line for line in requirements)


@pytest.mark.parametrize("case", ["the same disk", "another disk", "a folder that gives files its group"])
def test_weights_are_moved_to_artifacts_on_the_same_disk_unless_rights_come_from_their_folder(
    tracking: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, copied = shutil.copy2, []

    def note_and_copy(source: str, target: str) -> Any:
        copied.append(Path(source).name)
        return copy(source, target)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    checkpoint = locate("tiny")
    classifier, processor = load_classifier(checkpoint, LABELS, seed=0), load_processor(checkpoint)
    monkeypatch.setattr(shutil, "copy2", note_and_copy)
    if case == "another disk":
        monkeypatch.setattr(Path, "rename", refuse)
    Path("shared").mkdir()
    if case == "a folder that gives files its group":
        Path("shared").chmod(0o2775)
    experiment = mlflow.create_experiment("shared", artifact_location=str(Path("shared").absolute()))
    with mlflow.start_run(experiment_id=experiment):
        logged = flavor.log_model(classifier, processor, stride=4)
    assert "MLmodel" in copied
    assert sum(name.endswith(".safetensors") for name in copied) == (0 if case == "the same disk" else 2)
    model, *_ = flavor.load_model(logged.model_uri)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), classifier.parameters(), strict=True))


def test_the_example_that_is_saved_with_a_model_is_served(saved: Path) -> None:
    """Logging does not try it, as MLflow by itself would each time."""
    example = Model.load(str(saved)).get_serving_input(str(saved))
    (answer,) = mlflow.models.validate_serving_input(str(saved), example).to_dict("records")
    assert answer["label"] in LABELS


def test_the_model_cards_snippet_gives_the_pyfuncs_scores(saved: Path, served, clip: bytes) -> None:
    folder = saved / "checkpoint"
    processor = VJEPA2VideoProcessor.from_pretrained(folder)
    model = VJEPA2ForVideoClassification.from_pretrained(folder)
    inputs = processor(read_clip(clip, num_frames=16, stride=4), return_tensors="pt").to(model.device)
    with torch.no_grad():
        logits = model(**inputs).logits
    predictions = torch.nn.functional.softmax(logits, dim=-1)[0]
    answer = served.predict(flavor.example_input(clip), params={"top_k": len(LABELS)}).iloc[0]
    scores = {pair["label"]: pair["score"] for pair in answer["top_k"]}
    assert [scores[model.config.id2label[index]] for index in range(len(LABELS))] == pytest.approx(
        predictions.tolist(), abs=1e-6
    )


def test_load_model_gives_model_processor_and_stride(saved: Path) -> None:
    model, processor, stride, _, frames_per_second = flavor.load_model(str(saved))
    assert (stride, frames_per_second) == (4, 0)
    assert isinstance(model, VJEPA2ForVideoClassification)
    assert isinstance(processor, VJEPA2VideoProcessor)
    assert list(model.config.id2label.values()) == LABELS


def test_frames_per_second_are_kept_and_heard(saved: Path, clip: bytes, tmp_path: Path) -> None:
    model, processor, *_ = flavor.load_model(str(saved))
    flavor.save_model(model, processor, tmp_path / "model", stride=4, frames_per_second=9.0)
    loaded = flavor.load_model(str(tmp_path / "model"))
    assert loaded.sampling == Sampling(16, 4, 9.0)
    frames = read_clip(clip, num_frames=16, frames_per_second=9.0)
    assert not np.array_equal(frames, read_clip(clip, num_frames=16, stride=4))
    with torch.no_grad():
        expected = model(**processor(frames, return_tensors="pt")).logits.softmax(-1).max()
    answer = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(flavor.example_input(clip))
    assert answer["score"][0] == pytest.approx(float(expected), abs=1e-6)


def test_predictions_are_sorted_and_cut_to_top_k(served, clip: bytes) -> None:
    videos = pd.DataFrame({"video": [clip, draw_clip("up_clockwise", seed=2)]})
    answers = served.predict(videos)
    assert list(answers.columns) == ["label", "score", "top_k", "warning", "error"]
    assert len(answers) == 2
    for _, answer in answers.iterrows():
        scores = [pair["score"] for pair in answer["top_k"]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert answer["top_k"][0] == {"label": answer["label"], "score": answer["score"]}
    assert [len(answer) for answer in served.predict(videos, params={"top_k": 100})["top_k"]] == [7, 7]
    everything = served.predict(videos, params={"top_k": 7})["top_k"][0]
    assert sum(pair["score"] for pair in everything) == pytest.approx(1)


def test_several_clips_are_averaged(saved: Path, served, clip: bytes) -> None:
    model, processor, *_ = flavor.load_model(str(saved))
    logits = []
    for position in (1 / 6, 3 / 6, 5 / 6):
        pixels = processor(read_clip(clip, num_frames=16, stride=4, position=position), return_tensors="pt")
        with torch.no_grad():
            logits.append(model(**pixels).logits[0])
    expected = torch.stack(logits).softmax(-1).mean(0)
    pairs = served.predict(flavor.example_input(clip), params={"num_clips": 3, "top_k": 7})["top_k"][0]
    assert {pair["label"]: pair["score"] for pair in pairs} == pytest.approx(
        dict(zip(LABELS, expected.tolist(), strict=True)), abs=1e-6
    )


@pytest.mark.parametrize(
    ("videos", "params", "sentence"),
    [
        ([b""], {}, "Video 1 of 1 was refused: it is empty"),
        ([b"no video, at all!"], {}, "Video 1 of 1 was refused: it is text that is no video in base64"),
        (["/etc/passwd"], {}, "Video 1 of 1 was refused: it is text that is no video in base64"),
        ([b"\x00\x01\x02" * 50], {}, "Video 1 of 1 was refused: it cannot be decoded"),
        ([], {}, "Expected at least one row"),
        ([b"x"], {"top_k": 0}, "top_k=0: expected a whole number of at least 1"),
        ([b"x"], {"num_clips": 33}, "num_clips=33: expected at most 32"),
    ],
)
def test_faults_of_a_request_are_the_clients(served, videos: list, params: dict, sentence: str) -> None:
    frame = pd.DataFrame({"video": pd.Series(videos, dtype=object)})
    with pytest.raises(MlflowException, match=sentence) as caught:
        served.get_raw_model().predict(frame, params)
    assert caught.value.get_http_status_code() == 400


def test_one_bad_video_among_good_ones_is_named(served, clip: bytes) -> None:
    with pytest.raises(MlflowException, match="Video 2 of 3 was refused"):
        served.predict(pd.DataFrame({"video": [clip, clip[:500], clip]}))


def test_faults_of_the_model_are_not(served, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(served.get_raw_model().engine()._batcher, "submit", broken)
    with pytest.raises(MlflowException) as caught:
        served.predict(flavor.example_input(clip))
    assert caught.value.get_http_status_code() == 500
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cuda:7", "this machine has 0 CUDA GPUs: expected auto or cpu"),
        ("7", "this machine has 0 CUDA GPUs: expected auto or cpu"),
        ("mps", "expected auto, cpu, cuda or cuda:N"),
        ("the fast one", "expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_a_device_of_mlflows_that_is_not_there_is_named(
    saved: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("MLFLOW_DEFAULT_PREDICTION_DEVICE", given)
    for load in (mlflow.pyfunc.load_model, lambda path: flavor.make_video_classifier(flavor.fetch_model(path))):
        with pytest.raises(UserError, match=f"^MLFLOW_DEFAULT_PREDICTION_DEVICE={given}: {expected}$"):
            load(str(saved))


def test_mlflows_device_is_heard_where_none_is_asked_for(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("vjepa_mlflow.flavor.video_classifier.choose_device", made.append)
    for given, config in [("-1", {}), ("cpu", {}), ("cuda:7", {"device": "cpu"})]:
        monkeypatch.setenv("MLFLOW_DEFAULT_PREDICTION_DEVICE", given)
        mlflow.pyfunc.load_model(str(saved), model_config=config)
    assert made == ["cpu"] * 3


def test_the_environment_is_what_mlflow_makes_of_the_same_requirements(saved: Path) -> None:
    environment, requirements, constraints = _process_pip_requirements(flavor.get_default_pip_requirements())
    assert (saved / "conda.yaml").read_text() == yaml.safe_dump(environment, default_flow_style=False)
    assert (saved / "requirements.txt").read_text() == "\n".join(requirements)
    assert not constraints


@pytest.mark.parametrize("name", ["pip_requirements", "extra_pip_requirements"])
def test_two_environments_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    model, processor, *_ = flavor.load_model(str(saved))
    with pytest.raises(ValueError, match="Only one of `conda_env`"):
        flavor.save_model(model, processor, tmp_path / "model", stride=4, conda_env={}, **{name: ["pandas"]})
    assert not (tmp_path / "model").exists()


def test_a_newer_format_is_refused(saved: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "newer"))
    text = (copy / "MLmodel").read_text()
    (copy / "MLmodel").write_text(text.replace("format_version: 6", "format_version: 7"))
    with pytest.raises(UserError, match="saved in format 7: expected at most 6"):
        flavor.load_model(str(copy))


def test_a_model_loads_and_predicts_where_the_package_is_not_installed(
    saved: Path, tmp_path: Path, clip: bytes
) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip)
    program = (
        "import sys\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in getattr(finder, '__module__', '')]\n"
        "import mlflow, pandas as pd\n"
        "video = open('clip.mp4', 'rb').read()\n"
        "answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(pd.DataFrame({'video': [video]}))\n"
        "import json, vjepa_mlflow\n"
        "from pathlib import Path\n"
        "from vjepa_mlflow.flavor.packing import pack\n"
        "pack(Path('again'))\n"
        "print(json.dumps([answer['label'][0], vjepa_mlflow.__file__]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(saved)],
        cwd=tmp_path,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
        check=True,
    )
    label, origin = json.loads(run.stdout.splitlines()[-1])
    assert label in LABELS
    assert origin.startswith(str(saved / "code"))
    again = tmp_path / "again" / "vjepa_mlflow.zip"
    assert again.read_bytes() == (saved / "code" / "vjepa_mlflow.zip").read_bytes()


@pytest.mark.parametrize("uri", ["models:/no-such-model/1", "runs:/0123456789abcdef0123456789abcdef/model"])
def test_a_registered_model_that_is_not_there_is_named(tracking: str, uri: str) -> None:
    with pytest.raises(UserError, match=f"{uri}: .*expected a model that this project logged"):
        flavor.fetch_model(uri)


def test_a_model_of_another_flavour_is_refused(tracking: str, tmp_path: Path) -> None:
    class Other(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: list[str]) -> np.ndarray:
            return np.zeros(len(model_input))

    mlflow.pyfunc.save_model(tmp_path / "other", python_model=Other(), pip_requirements=[])
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tmp_path / "other"), "other")
    with pytest.raises(UserError, match="expected a model that this project logged"):
        flavor.fetch_model(f"runs:/{run.info.run_id}/other")
