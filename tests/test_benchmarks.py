"""The benchmarks run on a CPU too, and their report is made of what they wrote."""

import json
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import README, REPOSITORY
from transformers import VJEPA2ForVideoClassification

import benchmarks.encoder
import benchmarks.recipe
from benchmarks import card_loop, card_program, reading, report, tiny
from benchmarks.command import Results, Videos, extended, fresh_home
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.model import TINY_FOLDER, from_folder
from vjepa_mlflow.video import read_clip

ASKED = {"data": "wagon", "model": "random-vitl", "precision": "bf16", "epochs": 5}
MACHINE = {"date": "2026-11-28", "device": "some GPU", "cpu_cores": "16"}
CALL = {"machine": MACHINE, "import_seconds": [14.0, 15.0, 16.0]}
MEASURED = REPOSITORY / "benchmarks" / "results" / "command.json"


def run(program: ModuleType, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program.__name__, *arguments])
        program.main()


def test_the_recipe_beside_the_cards_loop_and_the_report(small_data: Path, tmp_path: Path) -> None:
    recipe, encoder = tmp_path / "recipe.json", tmp_path / "encoder.json"
    arguments = ["--data", str(small_data), "--epochs", "2", "--trials", "3", "--measured-trials", "2"]
    arguments += ["--precision", "fp32", "--encoding-seconds", "0.1"]
    run(benchmarks.recipe, *arguments, "--json", str(recipe))
    card, again, *ours = json.loads(recipe.read_text())["runs"]
    assert (card["name"], again["name"]) == ("card's loop", "card's loop, our reader")
    assert again["metrics"] == card["metrics"]
    cold, warm = (one for one in ours if one["name"].startswith("ours"))
    assert warm["seconds"] < cold["seconds"] / 2
    for one in (cold, warm):
        assert one["metrics"]["train_loss"] == pytest.approx(card["metrics"]["train_loss"], abs=1e-5)
        assert one["metrics"]["val_accuracy"] == card["metrics"]["val_accuracy"]
        assert one["metrics"]["test_accuracy"] == card["metrics"]["test_accuracy"]
    assert all(one["seconds"] > 0 for one in ours)

    run(
        benchmarks.encoder,
        "--precision",
        "fp32",
        "bf16",
        "--batch-size",
        "2",
        "--window",
        "2",
        "--json",
        str(encoder),
    )
    measured = json.loads(encoder.read_text())
    assert {row["encoder"] for row in measured["encoder"]} == {"ours", "transformers"}
    assert all(row["ms"] > 0 for row in measured["encoder"] + measured["head"])

    for name in ("serving.json", "tiny.json", "coverage.json"):  # whose programs take too long for here
        shutil.copy(REPOSITORY / "benchmarks" / "results" / name, tmp_path)
    add_whole_commands(tmp_path / "command.json")
    add_demo(tmp_path / "command_demo.json")
    report.write(tmp_path, tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| card's loop | fp32 |" in text
    assert "100 million" in text
    assert "| pretrained | 0 |" in text
    assert "| 4 | even |" in text
    assert "| 1 | 32 | 2500 | 0 |" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert [heading.partition(":")[0] for heading in headings[:3]] == [
        "## What the user waits for",
        "## README's first command",
        "## The engine alone",
    ]
    assert "| everything stored | 18.0 | 1.80 |" in text
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_pretrained_features_are_probed_beside_random_ones(small_data: Path, tmp_path: Path) -> None:
    pretrained = from_folder("pretrained", TINY_FOLDER)
    random = tiny.random_checkpoint(tmp_path / "random", seed=0)
    assert random.revision != pretrained.revision
    dataset = tiny.read_dataset(str(small_data), pretrained)
    first, second = (tiny.probe(checkpoint, str(small_data), dataset) for checkpoint in (pretrained, random))
    assert first["videos"] == 18
    assert (first["weights"], second["weights"]) == ("pretrained", "random")
    assert first["accuracy"] > second["accuracy"]


def add_whole_commands(path: Path) -> Results:
    results = Results(path, ASKED, CALL)
    loop = {"process_seconds": 73.0, "loop_seconds": 60.0}
    results.add(report.CARD, 137, [73.0], looped_clips=137, **loop)
    results.add(report.CARD, 1000, [extended(loop, 1000 / 300)], looped_clips=300, **loop)
    for name, seconds in zip(report.COMMANDS, ([33.0], [20.0, 22.0, 90.0], [19.0, 18.0, 18.25]), strict=True):
        logged = [{"checkpoint_wait_seconds": 0.25} for _ in seconds]
        results.add(name, 137, seconds, metrics=logged, stored_gib=1.79)
    for name, seconds in zip(report.SWEEPS, ([45.0], [40.0]), strict=True):
        results.add(name, 137, seconds, trials=20, stored_gib=1.79)
    return results


def add_demo(path: Path) -> None:
    results = Results(path, {"data": "demo"}, {**CALL, "import_seconds": [10.0]})
    results.add("first command", 736, [90.0])
    results.add("everything stored", 736, [17.0, 18.0, 19.0], metrics=[], stored_gib=0.4)


def test_videos_are_read_beside_the_cards_loop_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "KINDS", {"small": reading.Kind(160, 120, "libx264", 10)})
    for name, value in {"FRAMES": 40, "DIFFERENT": 2, "TRIED": 2}.items():
        monkeypatch.setattr(reading, name, value)
    arguments = ["--kinds", "small", "--seconds", "0.1", "--card-seconds", "0.1", "--device", "cpu"]
    run(reading, *arguments, "--precision", "fp32", "--json", str(tmp_path / "reading.json"))
    measured = json.loads((tmp_path / "reading.json").read_text())
    (one,) = measured["runs"]
    assert one["times_the_card"] == one["clips_per_second"] / one["card_clips_per_second"]
    text = "\n".join(report.reading_tables(measured))
    assert f"| 160x120 x264, key frame every 10 | {one['clips_per_second']:.0f} | " in text


def test_whole_commands_stand_beside_the_cards_program_and_imports(tmp_path: Path) -> None:
    results = add_whole_commands(tmp_path / "command.json")
    text = "\n".join(report.command_tables(results.written()))
    assert "| 137 | 73.0 | 33.0 (2.2) | 22.0 (3.3) | 18.2 (4.0) | 15.0 | some GPU |" in text
    assert "| 1000 | 213.0 |  |  |  | 15.0 | some GPU |" in text  # 73 s, and 700 / 300 of the loop's 60 s
    assert "In another call" not in text
    assert "For 1000 clips the card's loop ran over 300" in text
    assert "| 137 | 20 | 1460.0 | 45.0 (32.4) | 40.0 (36.5) | 15.0 | some GPU |" in text
    assert "| 137 | another seed | 0.250 | 1.79 |" in text
    assert "33 s (2.2 times faster) the first time on a machine" in report.headline(results.written())

    assert "the store had room" not in text
    results.add(report.COMMANDS[0], 1000, [60.0], metrics=[{}], stored_gib=6.5)
    text = "\n".join(report.command_tables(results.written()))
    assert "With 1000 clips the store had room for 6 GiB of about 13 the first time" in text


def test_parts_may_be_measured_in_several_calls(tmp_path: Path) -> None:
    path = tmp_path / "command.json"
    before = add_whole_commands(path).written()["measured"]
    other = {"machine": {**MACHINE, "device": "another GPU"}, "import_seconds": [8.0]}
    Results(path, ASKED, other).add(report.COMMANDS[0], 137, [30.0], metrics=[], stored_gib=0.0)
    text = "\n".join(report.command_tables(json.loads(path.read_text())))
    assert "the card's loop ran for 137 (I: 15.0 s)." in text
    after = json.loads(path.read_text())["measured"]
    assert len(after) == len(before)
    assert [row for row in after if row["machine"]["device"] == "another GPU"] == [
        {"name": report.COMMANDS[0], "clips": 137, "seconds": [30.0], "metrics": [], "stored_gib": 0.0, **other}
    ]
    with pytest.raises(UserError, match=r"command\.json: is of .*'epochs': 5.*: expected a file of .*'epochs': 1"):
        Results(path, {**ASKED, "epochs": 1}, CALL)


@pytest.mark.skipif(not MEASURED.exists(), reason="it is measured on a GPU")
def test_readme_has_the_times_of_the_whole_command() -> None:
    assert report.headline(json.loads(MEASURED.read_text())) in " ".join(README.split())


def test_more_clips_are_copies_in_the_same_shares(small_data: Path, tmp_path: Path) -> None:
    videos = Videos(small_data, tmp_path / "copies")
    assert videos.sized(18) == small_data
    folder = videos.sized(45)
    copies = sorted(folder.glob("*/*/*.mp4"))
    counts = {split: [len(list(label.iterdir())) for label in (folder / split).iterdir()] for split in ("train", "val")}
    assert sum(counts["train"]) == 25
    assert all(abs(count - 2.5 * 5) <= 1 for count in counts["train"])
    assert all(count == 5 for count in counts["val"])
    assert len({copy.read_bytes() for copy in copies}) == 45
    original = sorted(small_data.glob("*/*/*.mp4"))[0]
    frames, same = (read_clip(path, num_frames=8, stride=2, position=0.5) for path in (copies[0], original))
    assert (frames == same).all()

    (tmp_path / "odd" / "train" / "jump").mkdir(parents=True)
    (tmp_path / "odd" / "train" / "jump" / "1.avi").touch()
    with pytest.raises(UserError, match=r"1\.avi: expected \.mp4"):
        Videos(tmp_path / "odd", tmp_path)


def test_a_fresh_home_has_nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VJEPA_MLFLOW_CACHE", "TORCHINDUCTOR_CACHE_DIR", "MLFLOW_RUN_ID"):
        monkeypatch.setenv(name, "the user's")
    with fresh_home() as home:
        home.run("-c", "import json, os; print(json.dumps(dict(os.environ)))")
        environment = json.loads(home.output())
        assert "the user's" not in environment.values()
        assert not list(Path(environment["HOME"]).iterdir())
        assert not list(Path(environment["TMPDIR"]).iterdir())
        with pytest.raises(RuntimeError, match=r"exit status 3\nwhat it said"):
            home.run("-c", "print('what it said'); exit(3)")


def test_the_cards_program_trains_with_nothing_of_ours(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (card_loop, card_program):
        source = Path(module.__file__ or "").read_text()
        assert "import vjepa_mlflow" not in source
        assert "from vjepa_mlflow" not in source
    arguments = ["--data", str(small_data), "--model", str(TINY_FOLDER), "--output", str(tmp_path / "trained")]
    run(card_program, *arguments, "--epochs", "1")
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["loop_seconds"] > 0
    assert all(math.isfinite(loss) for loss in said["train_loss"])
    model = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "trained")
    assert len(model.config.id2label) == 2
