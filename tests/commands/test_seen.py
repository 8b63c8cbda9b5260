"""Models that know what they were trained on, so that no test is of that."""

import csv
import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, TrainingResult, UserError, evaluate, flavor, promote, train
from vjepa_mlflow.data import draw_clip
from vjepa_mlflow.stages.prepare import find_checkpoint

MOTIONS = ("left_clockwise", "right_clockwise")
MODEL = "models:/motions/1"

pytestmark = pytest.mark.usefixtures("undrawn")


def draw_set(folder: Path, *, first: int, per_class: int) -> Path:
    for motion in MOTIONS:
        for number in range(first, first + per_class):
            path = folder / motion / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw_clip(motion, seed=number))
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 10 clips each."""
    return draw_set(tmp_path_factory.mktemp("videos") / "data", first=0, per_class=10)


@pytest.fixture(scope="module")
def trained(module_tracking: Path, videos: Path) -> TrainingResult:
    """Registers `models:/motions/1`."""
    return train(Recipe(data=str(videos), model="tiny", epochs=1, registered_model_name="motions"))


def split_of(run_id: str) -> dict[str, str]:
    """The split of each video in a run."""
    with Path(MlflowClient().download_artifacts(run_id, "split.csv")).open(newline="") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file)}


def evaluated(videos: Path, *, model: str = MODEL, **how: str) -> tuple[set[str], str]:
    """The videos that an evaluation was on, and what its run says of them."""
    result = evaluate(model, Recipe(data=str(videos)), **how)
    return set(result.evaluation.names), MlflowClient().get_run(result.run_id).data.params["seen_videos"]


def copied(videos: Path, folder: Path) -> Path:
    return Path(shutil.copytree(videos, folder / "data"))


def test_with_other_videos_beside_its_own_it_is_tested_on_its_own(
    trained: TrainingResult, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {name for name, split in split_of(trained.run_id).items() if split == "test"}
    assert len(own) == 3
    assert evaluated(videos) == (own, "0 trained on, 0 validated on, 3 tested on, 0 new")
    more = draw_set(copied(videos, tmp_path / "more"), first=50, per_class=1)
    assert evaluated(more)[0] == own
    many = draw_set(copied(videos, tmp_path / "many"), first=50, per_class=10)
    capsys.readouterr()
    found, said = evaluated(many)
    assert found > own
    assert said == "0 trained on, 0 validated on, 3 tested on, 3 new"
    assert "3 videos that the model knows in it, and 3 drawn of 20 new ones" in capsys.readouterr().out
    fewer = copied(videos, tmp_path / "fewer")
    for name in [name for name, split in split_of(trained.run_id).items() if split == "train"][:5]:
        (fewer / name).unlink()
    assert evaluated(fewer)[0] == own
    for name in split_of(trained.run_id).keys() - own:
        (fewer / name).unlink(missing_ok=True)
    assert evaluated(fewer)[0] == own


def test_figures_over_what_it_was_trained_on_are_marked(
    trained: TrainingResult, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = draw_set(tmp_path / "data", first=50, per_class=2)
    for split in ("train", "test"):
        for motion in MOTIONS:
            target = tmp_path / "given" / split / motion
            shutil.copytree(given / motion if split == "train" else videos / motion, target)
    assert MlflowClient().get_model_version("motions", "1").tags["test_seen_in_training"] == "0"
    names, said = evaluated(tmp_path / "given")
    assert len(names) == 20
    assert said == "14 trained on, 3 validated on, 3 tested on, 0 new"
    assert "its test figures are not those of a test" in capsys.readouterr().out
    # The version keeps those of its test.
    assert MlflowClient().get_model_version("motions", "1").tags["test_seen_in_training"] == "0"


def test_a_test_over_what_was_trained_on_before_is_said_everywhere_and_not_promoted(
    trained: TrainingResult, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_set(tmp_path / "data" / "train", first=50, per_class=4)
    shutil.copytree(videos, tmp_path / "data" / "test")
    capsys.readouterr()
    recipe = Recipe(data=str(tmp_path / "data"), model=MODEL, epochs=1, registered_model_name="motions")
    result = train(recipe)
    said = capsys.readouterr().out
    assert "Note: 17 of the test videos were trained or validated on before: the test figures are not those" in said
    client = MlflowClient()
    assert (
        client.get_run(result.run_id).data.params["seen_videos"] == "14 trained on, 3 validated on, 3 tested on, 0 new"
    )
    version = client.get_model_version("motions", result.model_uri.rpartition("/")[2])
    assert version.tags["test_seen_in_training"] == "17"
    marked = "17 of which were trained or validated on before: its figures are not those of a test"
    assert f"over 20 videos, {marked}" in version.description
    card = Path(mlflow.artifacts.download_artifacts(result.model_uri), "README.md").read_text()
    assert f"20 videos, {marked}." in card
    assert "results: []" in card
    assert "14 trained on" in Path(client.download_artifacts(result.run_id, "report.html")).read_text()
    client.set_registered_model_alias("motions", "champion", "1")
    with pytest.raises(UserError, match=rf"version {version.version} of motions was evaluated on 17 videos") as caught:
        promote(result.model_uri, "champion", if_better="test_accuracy")
    assert f"evaluate {result.model_uri} --split test --unseen-by models:/motions/1 --data DATA" in str(caught.value)


def test_a_model_that_was_trained_further_knows_what_the_one_before_it_has_seen(
    trained: TrainingResult, videos: Path, tmp_path: Path
) -> None:
    own = split_of(trained.run_id)
    more = draw_set(copied(videos, tmp_path), first=50, per_class=10)
    further = train(Recipe(data=str(more), model=MODEL, epochs=1, registered_model_name="further"))
    # What the first was trained on is trained on, and what it was tested on is tested on.
    now = split_of(further.run_id)
    assert {name: now[name] for name in own} == own
    assert sorted(now.values()).count("test") == 6
    elsewhere = draw_set(tmp_path / "elsewhere", first=90, per_class=8)
    last = train(Recipe(data=str(elsewhere), model=further.model_uri, epochs=1, registered_model_name="further"))
    assert evaluated(videos, model=last.model_uri)[0] == {name for name, split in own.items() if split == "test"}
    # Two models are compared on what neither was trained on.
    both = draw_set(copied(more, tmp_path / "both"), first=90, per_class=8)
    first, second = "models:/motions/1", last.model_uri
    names, _ = evaluated(both, model=first, unseen_by=second)
    assert names == evaluated(both, model=second, unseen_by=first)[0]
    assert names == {name for name, split in (now | split_of(last.run_id)).items() if split == "test"}


def test_a_model_of_an_older_version_is_known_by_its_run(trained: TrainingResult, videos: Path) -> None:
    model, processor, *_ = flavor.load_model(MODEL)
    older = flavor.log_model(model, processor, "older", stride=4, run_id=trained.run_id)
    own = {name for name, split in split_of(trained.run_id).items() if split == "test"}
    assert evaluated(videos, model=older.model_uri) == (own, "0 trained on, 0 validated on, 3 tested on, 0 new")


def test_a_checkpoint_in_the_folder_of_a_logged_model_is_known_by_it(trained: TrainingResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mlflow.artifacts.download_artifacts(MODEL), tmp_path / "model"))
    _, own = find_checkpoint(Recipe(model=str(folder / "checkpoint")))
    assert own is not None
    (folder / "checkpoint" / "seen_videos.json").unlink()  # as in a model of an older version
    assert find_checkpoint(Recipe(model=str(folder / "checkpoint")))[1] == own
    shutil.move(folder / "checkpoint", tmp_path / "alone")
    assert find_checkpoint(Recipe(model=str(tmp_path / "alone")))[1] is None


def test_a_model_that_nothing_is_known_of_is_marked(
    trained: TrainingResult, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, processor, *_ = flavor.load_model(MODEL)
    flavor.save_model(model, processor, tmp_path / "model", stride=4)
    _, said = evaluated(videos, model=str(tmp_path / "model"))
    assert said == f"0 trained on, 0 validated on, 0 tested on, 3 new; not known of {tmp_path / 'model'}"
    assert "whether its test figures are those of a test is not known" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"unseen_by=.*model: what .*model was trained on is not known"):
        evaluate(MODEL, Recipe(data=str(videos)), unseen_by=str(tmp_path / "model"))


def test_foreign_classes_are_told_before_any_video_is_opened(trained: TrainingResult, tmp_path: Path) -> None:
    for name in ("up/1.mp4", "down/1.mp4", f"{MOTIONS[0]}/1.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()  # which is no video
    with pytest.raises(
        UserError, match=r"2 of its classes are none of the model's: 'down' \(down/1.mp4\), 'up' \(up/1.mp4\)"
    ):
        evaluate(MODEL, Recipe(data=str(tmp_path)))
