import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import write_video

from vjepa_mlflow import Recipe, UserError, check
from vjepa_mlflow.cli import commands
from vjepa_mlflow.runtime.cpus import usable_cpus


@pytest.fixture
def messy(small_data: Path, tmp_path: Path) -> Path:
    """Class folders with a copy, a video that is none, and much that is no video."""
    for video in sorted(small_data.rglob("*.mp4")):
        target = tmp_path / "data" / video.parent.name / video.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, target)
    root = tmp_path / "data"
    shutil.copy(root / "left_clockwise" / "0.mp4", root / "left_clockwise" / "copy.mp4")
    (root / "right_clockwise" / "bad.mp4").write_bytes(b"nothing")
    (root / "loose.mp4").touch()
    (root / "right_clockwise" / "notes.txt").touch()
    (root / "left_clockwise" / "above").symlink_to(root)
    return root


def test_it_says_what_there_is_and_what_a_training_would_take(messy: Path) -> None:
    survey = check(Recipe(data=str(messy), model="tiny", epochs=3, bad_videos="skip"))
    lines = [" ".join(line.split()) for line in survey.text().splitlines()]
    assert lines[:8] == [
        f"Data {messy}",
        "19 videos of 2 classes, 0.8 minutes, 0.2 MiB",
        "Splits class train val test different groups",
        "left_clockwise 7 2 1 9",
        "right_clockwise 6 1 2 9",
        "all 13 3 3",
        "val and test drawn, seed 0",
        "Groups none: every video stands for itself, but for copies",
    ]
    assert "Frames 128x128 (19)" in lines
    assert "Frame rates 16 (19)" in lines
    assert "Doubles left_clockwise/0.mp4 = left_clockwise/copy.mp4" in lines
    assert any(line.startswith("Bad videos right_clockwise/bad.mp4: ") for line in lines)
    assert "Left out videos in no class folder (1): loose.mp4" in lines
    assert "files without a video's suffix (1): right_clockwise/notes.txt" in lines
    assert "folders that are read already by another name (1): left_clockwise/above (leads to a folder above)" in lines
    assert f"Training 3 epochs read {3 * 13 + 6} clips, with tiny in fp32" in lines


def test_reading_takes_no_longer_than_each_video_once(messy: Path) -> None:
    survey = check(Recipe(data=str(messy), model="tiny", epochs=300, bad_videos="skip"))
    pace = 600 * usable_cpus() / len(survey.videos.findings)  # seconds a clip, which is all of a video here
    paced = [one._replace(pace=pace) for one in survey.videos.findings]
    lines = replace(survey, videos=replace(survey.videos, findings=paced)).text()
    assert f"reading the clips takes about 10 minutes on {usable_cpus()} CPUs" in lines


def test_it_says_where_a_stride_means_different_times(messy: Path) -> None:
    write_video(messy / "left_clockwise" / "fast.mp4", frames=90, rate=30)
    recipe = Recipe(data=str(messy), model="tiny", bad_videos="skip")
    note = (
        "stride=4 is 0.133 s from frame to frame at 30 frames a second and 0.25 s at 16; 1 of 20 videos are a quarter "
        "or more off the median rate, 16; frames_per_second=4 means the same time in all"
    )
    assert note in check(recipe).text()
    assert "means the same time" not in check(replace(recipe, frames_per_second=4.0)).text()


def test_it_names_what_a_server_would_refuse(messy: Path) -> None:
    write_video(messy / "left_clockwise" / "wide.mkv", size=(1280, 64), codec="ffv1", frames=20)
    write_video(messy / "left_clockwise" / "old.avi", codec="huffyuv", pixel_format="yuv422p", frames=20)
    text = " ".join(check(Recipe(data=str(messy), model="tiny", bad_videos="skip")).text().split())
    assert "Refused by servers a server with its default limits would refuse 2 of the videos:" in text
    assert "codecs, 1: left_clockwise/old.avi (its codec is huffyuv)" in text
    assert "max_aspect_ratio, 1: left_clockwise/wide.mkv (its frames have 1280x64 pixels)" in text


def test_the_command_fails_where_a_training_would(messy: Path) -> None:
    arguments = ["check", str(messy), "--model", "tiny"]
    done = CliRunner().invoke(commands, arguments)
    assert "19 videos of 2 classes" in done.stdout
    assert isinstance(done.exception, UserError)
    assert "1 of 20 videos cannot be used: a training would stop there" in str(done.exception)
    assert CliRunner().invoke(commands, [*arguments, "--bad-videos", "skip"]).exit_code == 0


def test_features_take_what_the_model_says(small_data: Path) -> None:
    def store(**changes: str) -> str:
        text = check(Recipe(data=str(small_data), epochs=3, **changes)).text()
        return next(line for line in text.splitlines() if "GiB of store" in line).strip()

    clips = 3 * 10 + 4 + 4
    assert store() == f"their features take {clips * 8 / 1024:.2f} GiB of store"
    assert store(precision="bf16") == f"their features take {clips * 4 / 1024:.2f} GiB of store"
    assert (
        store(model="someone/else")
        == f"their features take {clips * 8 / 1024:.2f} GiB of store if someone/else is a ViT-L"
    )


def test_what_was_replaced_by_another_of_its_size_and_time_is_named(
    messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    arguments = ["check", str(messy), "--model", "tiny", "--bad-videos", "skip"]
    path = write_video(messy / "left_clockwise" / "mine.mp4")
    other = write_video(tmp_path / "other.mp4", frames=60).read_bytes()
    assert "Replaced" not in CliRunner().invoke(commands, arguments).stdout
    assert "Replaced" not in CliRunner().invoke(commands, [*arguments, "--reread"]).stdout
    status = path.stat()
    path.write_bytes(other.ljust(status.st_size, b"x"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    said = " ".join(CliRunner().invoke(commands, [*arguments, "--reread"]).stdout.split())
    assert (
        "1 of 21 videos have other contents than before, with the same size and time: left_clockwise/mine.mp4" in said
    )
    assert "Replaced" not in CliRunner().invoke(commands, arguments).stdout
