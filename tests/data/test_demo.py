import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tools.pretrain_tiny import course
from tools.pretrain_tiny.vocabulary import make_vocabulary
from vjepa_mlflow.data import demo, draw_clip, read_training_data
from vjepa_mlflow.data.drawing import draw_films, expose
from vjepa_mlflow.files.temporary import PREFIX
from vjepa_mlflow.video import read_clip
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.sampling import Sampling, choose_frames
from vjepa_mlflow.video.timeline import read_timeline

DRAWN = {"train": 8, "val": 2, "test": 12}
"""Videos of each class that `conftest.py` has drawn."""


def test_the_demo_is_drawn_whole(demo_set: Path) -> None:
    samples = read_training_data("demo").samples
    assert samples[0].path.is_relative_to(demo_set)
    assert Counter((sample.split, sample.label) for sample in samples) == {
        (split, motion): count for split, count in DRAWN.items() for motion in demo.MOTIONS
    }
    assert len(demo.MOTIONS) >= 6
    assert demo.CLIPS_PER_CLASS == {"train": 72, "val": 8, "test": 12}  # which takes the tests too long
    assert not list(demo_set.parent.glob(f"{PREFIX}*"))  # nothing half-written beside it


def test_what_is_missing_or_changed_is_drawn_again_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "CLIPS_PER_CLASS", {"train": 1})
    root = demo.folder()
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in root.rglob("*.mp4")}
    missing, cut, flipped, *_ = sorted(before)
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"x")
    (root / "mine.txt").touch()
    assert demo.folder() == root
    said = capsys.readouterr().err
    assert "3 files were missing or changed, and were drawn again: train/down_clockwise/000.mp4" in said
    (tmp_path / "demo-2-files").write_text("{")
    assert demo.folder() == root
    after = {path: (path.read_bytes(), path.stat().st_ino) for path in root.rglob("*.mp4")}
    assert {path: content for path, (content, _) in after.items()} == {
        path: content for path, (content, _) in before.items()
    }
    assert sum(after[path] != before[path] for path in before) <= 3
    assert (root / "mine.txt").exists()


def test_a_clip_is_drawn_quickly() -> None:
    """The whole set of 736 takes some 20 seconds on two cores."""
    started = time.perf_counter()
    for seed in range(16):
        draw_clip("up_clockwise", seed=seed)
    assert time.perf_counter() - started < 5


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert draw_clip("up_clockwise", seed=5) == draw_clip("up_clockwise", seed=5)
    assert draw_clip("up_clockwise", seed=5) != draw_clip("up_clockwise", seed=6)
    assert draw_clip("up_clockwise", seed=5) != draw_clip("up_clockwise", seed=5, split="test")


def test_a_clip_is_a_real_video_read_at_the_pace_it_is_drawn_for() -> None:
    video = draw_clip("up_clockwise", seed=0)
    assert read_timeline(Source(video)).num_frames == demo.FRAMES
    assert read_clip(video, num_frames=16, stride=4).shape == (16, demo.SIZE, demo.SIZE, 3)
    assert set(np.diff(choose_frames(np.arange(demo.FRAMES), Sampling(16, 4), 0.5))) == {demo.STRIDE}


@pytest.mark.parametrize("motion", demo.MOTIONS)
def test_a_file_shows_what_moves_as_its_class_does(motion: str) -> None:
    frames = read_clip(draw_clip(motion, seed=3), num_frames=16, stride=4) / 255
    first = (demo.FRAMES - 15 * demo.STRIDE - 1) // 2  # of the centred clip
    differences = {}
    for name, drawn in demo.MOTIONS.items():
        generator = torch.Generator().manual_seed(3)
        films = draw_films(torch.tensor([drawn]), demo.STYLES["train"], size=demo.SIZE, generator=generator)
        shown = expose(films, torch.arange(16) + first / demo.STRIDE)[0].permute(0, 2, 3, 1).numpy()
        differences[name] = np.abs(frames - shown).mean()
    assert min(differences, key=differences.__getitem__) == motion
    assert differences[motion] < 0.03  # what encoding costs


def test_classes_are_named_after_their_motions() -> None:
    for name, motion in demo.MOTIONS.items():
        direction, turn = name.split("_")
        assert motion[:3] == (
            {"left": -1, "right": 1}.get(direction, 0),
            {"up": -1, "down": 1}.get(direction, 0),
            {"clockwise": 1, "counterclockwise": -1}[turn],
        )


def test_no_single_frame_tells_the_class() -> None:
    """A linear classifier stays at chance, whatever frame it is given and although it knows which."""
    labels = torch.arange(len(demo.MOTIONS)).repeat_interleave(150)
    motions = torch.tensor(list(demo.MOTIONS.values()))[labels]
    films = draw_films(motions, demo.STYLES["train"], size=16, generator=torch.Generator().manual_seed(0))
    frames = expose(films, torch.tensor([0.0, 8.0, 15.0])).flatten(2).numpy()
    train = np.arange(len(labels)) % 3 > 0
    for frame in range(3):
        probe = LogisticRegression(C=0.01, max_iter=1000).fit(frames[train, frame], labels[train])
        assert probe.score(frames[~train, frame], labels[~train]) < 0.2, frame  # of 400: chance 0.125, deviation 0.017


def test_test_videos_have_patterns_that_training_never_saw() -> None:
    patterns = {split: set(style.textures) for split, style in demo.STYLES.items()}
    assert patterns["train"] == patterns["val"]
    assert not patterns["test"] & (patterns["train"] | set(course.TEXTURES))


def test_the_checkpoint_was_taught_other_motions_made_of_the_same_parts() -> None:
    taught = set(make_vocabulary().values())
    assert not taught & set(demo.MOTIONS.values())
    for motion in demo.MOTIONS.values():
        assert motion._replace(clockwise=0) in taught
        assert motion._replace(right=0, down=0) in taught
