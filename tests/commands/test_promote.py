"""An alias that moves only to what is better, and what is served by it."""

from pathlib import Path

import mlflow
import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, UserError, evaluate, flavor, promote
from vjepa_mlflow.cli import commands
from vjepa_mlflow.commands.promote import Promotion
from vjepa_mlflow.model import load_classifier, load_processor, locate

pytestmark = pytest.mark.usefixtures("undrawn")

LABELS = ["left_clockwise", "right_clockwise"]


def register(*logits: float) -> None:
    """Registers a version of `motions` that says the same of every video."""
    checkpoint = locate("tiny")
    model = load_classifier(checkpoint, LABELS, seed=0)
    torch.nn.init.zeros_(model.classifier.weight)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor(logits))
    flavor.log_model(model, load_processor(checkpoint), stride=4, registered_model_name="motions")


@pytest.fixture
def versions(tracking: str, small_data: Path) -> str:
    """Two versions, right as often, the second of them less sure; both evaluated. Returns the tracking URI."""
    for number, logits in enumerate([(3.0, 0.0), (0.0, 0.1)], start=1):
        register(*logits)
        evaluate(f"models:/motions/{number}", Recipe(data=str(small_data)))
    mlflow.end_run()
    return tracking


def champion() -> str:
    return str(MlflowClient().get_model_version_by_alias("motions", "champion").version)


def test_an_alias_moves_to_what_is_better_on_the_same_videos_and_is_served(versions: str, clip: bytes) -> None:
    first = promote("models:/motions/1", "champion", if_better="test_loss")
    assert first == Promotion("motions", "champion", "1", holder=None, moved=True)
    loaded = mlflow.pyfunc.load_model("models:/motions@champion")
    assert loaded.predict(flavor.example_input(clip))["label"][0] == "left_clockwise"

    equal = promote("models:/motions/2", "champion", if_better="test_accuracy")
    assert equal.figures == (0.5, 0.5)
    assert (equal.moved, champion()) == (False, "1")

    result = CliRunner().invoke(
        commands, ["promote", "models:/motions/2", "--alias", "champion", "--if-better", "test_loss"]
    )
    assert result.exit_code == 0, result.output
    on, before, after, became = result.stdout.splitlines()
    assert on.startswith("test_loss on ")
    assert on.endswith(", 1 clip a video")
    assert before == "version 1    1.5486  (models:/motions@champion)"
    assert after == "version 2    0.6944"
    assert became == "models:/motions@champion is now version 2, and was version 1"
    loaded = mlflow.pyfunc.load_model("models:/motions@champion")  # as `mlflow models serve` does, see test_readme
    assert loaded.predict(flavor.example_input(clip))["label"][0] == "right_clockwise"

    back = promote("models:/motions/1", "champion", if_better="test_loss")
    assert (back.moved, champion()) == (False, "2")
    assert promote("models:/motions/2", "champion") == Promotion("motions", "champion", "2", holder="2", moved=False)
    assert promote("models:/motions/1", "champion").moved
    assert champion() == "1"


def test_what_was_not_evaluated_alike_is_not_compared(versions: str, small_data: Path) -> None:
    promote("models:/motions/1", "champion")
    evaluate("models:/motions/2", Recipe(data=str(small_data)), num_clips=2)
    with pytest.raises(
        UserError, match=r"version 1 of motions was evaluated on .*1 clip a video, and version 2 on .*2"
    ):
        promote("models:/motions/2", "champion", if_better="test_loss")
    evaluate("models:/motions/2", Recipe(data=str(small_data)), split="val")
    with pytest.raises(
        UserError, match=r"if_better=val_loss: version 1 of motions has no such figure: expected one of "
    ):
        promote("models:/motions/2", "champion", if_better="val_loss")
    MlflowClient().delete_model_version_tag("motions", "1", "test_seen_in_training")  # as of old
    with pytest.raises(UserError, match=r"version 1 of motions was evaluated by an older version .*motions/1$"):
        promote("models:/motions/2", "champion", if_better="test_loss")
    with pytest.raises(UserError, match=r"version 1 of motions has no such figure: expected one of test_accuracy"):
        promote("models:/motions/2", "champion", if_better="test_seen_in_training")
    MlflowClient().set_model_version_tag("motions", "1", "test_seen_in_training", "unknown")
    register(0.0, 0.0)
    with pytest.raises(
        UserError, match=r"version 3 of motions has no such figure: .*vjepa-mlflow evaluate models:/motions/3"
    ):
        promote("models:/motions/3", "champion", if_better="test_loss")
    assert champion() == "1"


@pytest.mark.parametrize(
    ("uri", "alias", "reason"),
    [
        ("models:/motions/1", "champion", "models:/motions/1.*not found"),
        ("runs:/0123/model", "champion", "expected a registered version, such as models:/name/2"),
        ("models:/motions", "champion", "expected a registered version"),
        ("./model", "champion", "expected a registered version"),
    ],
)
def test_what_is_not_there_is_named(tracking: str, uri: str, alias: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        promote(uri, alias)


def test_an_alias_that_mlflow_does_not_allow_is_named(tracking: str) -> None:
    register(0.0, 0.0)
    with pytest.raises(UserError, match="alias v1: "):
        promote("models:/motions/1", "v1")
