"""Files that an earlier version left, read by this one: what users have on disk, in a database or on a server.

All of `tests/earlier` was written at fad09b1 by the functions that write such files, and is not to be written anew.
Its training is that of `small_model`, stopped after step 4; its study has a trial of each state.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from mlflow import MlflowClient
from trainings import Clips, Evaluation, Training
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from vjepa_mlflow import Recipe, data, search, tracking
from vjepa_mlflow.data import Sample
from vjepa_mlflow.features import Clip
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.features.store import FeatureStore
from vjepa_mlflow.files.cached import cached_values
from vjepa_mlflow.model import TRANSFORMERS, Head, freeze_backbone
from vjepa_mlflow.model.checkpoint import _Digests
from vjepa_mlflow.model.frozen import KnownBackbone, _Agreement
from vjepa_mlflow.stages.describe import Publication
from vjepa_mlflow.stages.pace import Pace
from vjepa_mlflow.stages.publish import HEAD_TAG
from vjepa_mlflow.stages.training_run import define
from vjepa_mlflow.tracking.delivery import deliver
from vjepa_mlflow.tracking.entries import entries, kind_of
from vjepa_mlflow.tracking.joining import JOB_TAG, KEY_TAG, STATUS_TAG, Job
from vjepa_mlflow.tracking.outbox_folder import Address, End, damage_beside, read_address, read_end
from vjepa_mlflow.tracking.signs_of_life import ALIVE_TAG
from vjepa_mlflow.tracking.unfinished import DEFINITION_TAG
from vjepa_mlflow.training import HeadPasses, fit, load_best, read_snapshot
from vjepa_mlflow.video import Finding, VideoProperties, View

EARLIER = Path(__file__).parent / "earlier"
BASELINE = Path(__file__).parent.parent / "sweeps" / "baseline.yaml"
RUN = "0123456789abcdef0123456789abcdef"
SAMPLES = [
    Sample(Path("/v/a.mp4"), "a.mp4", "a", "train", None, "0" * 64, 2.0),
    Sample(Path("/v/b.mp4"), "b.mp4", "b", "val", None, "1" * 64, 2.0),
    Sample(Path("/v/c.mp4"), "c.mp4", "b", "test", "g", "2" * 64, 2.0),
]


def test_a_store_of_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    shutil.copytree(EARLIER / "features", tmp_path / "features")
    space = FeatureSpace("backbone", "processor", 16, 4, 0.0, "bf16", "lean")
    view = View(0.1, 0.2, 0.3, flip=True)
    name = space.entry(Clip(Sample(Path("a.mp4"), "a.mp4", "a", digest="digest"), view))
    found = FeatureStore(space).read(name)
    assert found is not None
    assert torch.equal(found, torch.arange(8, dtype=torch.bfloat16).reshape(4, 2))


@pytest.mark.parametrize("kind", [Finding, KnownBackbone, _Agreement, _Digests, Pace])
def test_a_small_file(kind: type[tuple]) -> None:
    kept = cached_values(EARLIER / "notes" / kind.__name__.strip("_"), kind)
    assert kept is not None
    texts = {str: "text{}", int: "{}", float: "{}.5"}
    assert list(map(str, kept)) == [texts[type(value)].format(index) for index, value in enumerate(kept)]


def test_what_was_measured_of_a_video() -> None:
    kept = cached_values(EARLIER / "notes" / "VideoProperties", VideoProperties)
    assert kept == VideoProperties(*(index + 0.5 for index in range(len(fields(VideoProperties)))))


def small_model() -> VJEPA2ForVideoClassification:
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 1, "num_pooler_layers": 1, "pred_num_hidden_layers": 1}
    sizes = {"hidden_size": 8, "pred_hidden_size": 8, "mlp_ratio": 1.0, "crop_size": 32, "patch_size": 16}
    heads = {"num_attention_heads": 2, "pred_num_attention_heads": 2}
    config = VJEPA2Config(frames_per_clip=4, num_labels=3, **layers, **sizes, **heads)
    return freeze_backbone(VJEPA2ForVideoClassification(config))


def test_a_checkpoint_is_gone_on_with() -> None:
    kept = read_snapshot(EARLIER / "checkpoint.safetensors")
    assert (kept.steps, len(kept.epochs), kept.best_epoch) == (4, 1, 1)
    model = small_model()
    clips = Clips(model)
    trained = fit(
        HeadPasses(Head.of(model), precision="fp32", form=TRANSFORMERS),
        train=Training(clips),  # type: ignore[arg-type]
        val=Evaluation(clips),  # type: ignore[arg-type]
        recipe=Recipe(epochs=3, learning_rate=1e-3),
        on_epoch=lambda _: None,
        resume=kept,
    )
    written = json.loads((EARLIER / "epochs.json").read_text())
    assert trained.epochs[0] == written[0]
    for ours, earlier in zip(trained.epochs, written, strict=True):
        assert {**ours, "clips_per_second": 0} == pytest.approx({**earlier, "clips_per_second": 0}, abs=1e-3)
    best, epochs = load_best(EARLIER / "head.safetensors")
    assert epochs == written
    for name, weights in trained.best.weights.items():
        assert torch.allclose(weights, best.weights[name], rtol=0, atol=1e-4), name


def test_an_outbox(tracking: str, tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    shutil.copytree(EARLIER / "outbox", folder)
    assert read_address(folder) == Address(RUN, "http://127.0.0.1:9")
    end = read_end(folder)
    assert end is not None
    assert end == End("FINISHED", end.end_time)
    assert damage_beside(folder) == []
    with mlflow.start_run() as run:
        pass
    for entry in entries(folder):
        deliver(run.info.run_id, entry)
    assert {kind_of(entry) for entry in entries(folder)} == {
        *("batch", "input", "files", "table", "checkpoint", "deletion")
    }
    logged = MlflowClient().get_run(run.info.run_id)
    assert {"learning_rate", "num_classes", "drawn_splits"} <= logged.data.params.keys()
    assert logged.data.metrics == {"val_accuracy": 0.5, "val_loss": 1.25}
    assert len(logged.inputs.dataset_inputs) == 3
    artifacts = {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}
    assert artifacts == {"split.csv", "labels.json", "report.html", "test_predictions.json", "checkpoint"}


def test_a_model_that_waits_to_be_published(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    shutil.copytree(EARLIER / "outbox", folder)
    kept = tracking.read_publication(folder)
    assert kept is not None
    assert Publication(**kept) == Publication(
        stride=4,
        precision="fp32",
        step=3,
        head="a digest",
        model_card="# A card",
        registered_model_name="wagon",
        description="a sentence",
        tags={"test_accuracy": "0.5"},
    )


def test_a_run_and_a_study_are_the_same_as_before() -> None:
    written = json.loads((EARLIER / "definitions.json").read_text())
    assert define(Recipe(), SAMPLES) == written["train"]
    plan = search.read_plan(BASELINE)
    assert search.define(plan, Recipe(), SAMPLES) == written["sweep"]
    assert Job.of("train", written["train"], {}).key == "61a2104237f5d76b"
    assert Recipe(**yaml.safe_load((EARLIER / "recipe.yaml").read_text())) == Recipe()


def test_what_a_model_has_seen() -> None:
    seen = data.read_seen(EARLIER)
    assert seen is not None
    assert seen.count(SAMPLES) == {"train": 1, "val": 1, "test": 1}
    assert seen.unknown == ("elsewhere",)


def test_a_study_goes_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.executescript((EARLIER / "study.sql").read_text())
    plan = search.read_plan(BASELINE)
    shared = search.SharedStudy(f"sqlite:///{tmp_path}/study.db", "wagon")
    assert not shared.create(plan, search.define(plan, Recipe(), SAMPLES))
    assert shared.wait_for_run() == RUN
    shared.hold(RUN)
    shared.agree("videos", data.describe_contents(SAMPLES))
    queue = shared.queue(plan, Recipe(), count=6, on_interrupted=lambda _: None)
    trials = queue.trials()
    states = ["COMPLETE", "PRUNED", "FAIL", "FAIL", "INTERRUPTED", "WAITING"]
    assert [trial.state for trial in trials] == states
    assert trials[2].failure == "training loss became nan"
    assert trials[3].failure.startswith("its process died 3 times")
    assert "RuntimeError: CUDA out of memory" in trials[3].failure
    rows = search.trial_rows(trials, plan)
    assert (rows[0]["val_loss"], rows[0]["best_epoch"], rows[0]["seconds"]) == (1.0, 2, 1.5)
    best = search.best_trial(trials, plan.metric)
    assert best is not None
    assert best.number == 0
    running = queue.take_next()
    assert running is not None
    assert running.number == 4
    assert plan.space.suggest(running.trial) == trials[4].frozen.params
    assert not shared.once("best of 6").is_done()


def test_names_by_which_runs_and_models_are_known() -> None:
    assert [JOB_TAG, KEY_TAG, STATUS_TAG] == ["vjepa_mlflow.job", "vjepa_mlflow.job_key", "vjepa_mlflow.job_status"]
    assert [ALIVE_TAG, DEFINITION_TAG] == ["vjepa_mlflow.alive", "vjepa_mlflow.definition"]
    assert [tracking.FAILURE_TAG, tracking.RESUMED_TAG] == ["vjepa_mlflow.failure", "vjepa_mlflow.resumed_run"]
    assert [tracking.TRIAL_TAG, tracking.STATE_TAG] == ["vjepa_mlflow.trial", "vjepa_mlflow.trial_state"]
    assert HEAD_TAG == "vjepa_mlflow.head"
    assert tracking.seen_tag("test") == "test_seen_in_training"
    assert tracking.evaluated_on_tag("test") == "test_evaluated_on"
