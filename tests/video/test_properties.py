import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluations import rewrite_video

from vjepa_mlflow.data import draw_clip
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.video import (
    Sampling,
    VideoError,
    VideoFile,
    VideoProperties,
    inspect_videos,
    measure_video,
    measure_videos,
    preflight,
)
from vjepa_mlflow.video.decode import sample_clip
from vjepa_mlflow.video.properties import _scale_down

SIZE = 96


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "clip.mp4"
    path.write_bytes(draw_clip("left_clockwise", seed=3))
    return path


def measured(path: Path) -> VideoProperties:
    return measure_video(path, Sampling(16, 4))


def blur(frame: np.ndarray) -> np.ndarray:
    rolled = [np.roll(frame.astype(float), (y, x), (0, 1)) for y in range(-4, 5) for x in range(-4, 5)]
    return np.mean(rolled, axis=0).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "smaller"),
    [
        (lambda frame: frame // 4, {"brightness", "contrast", "sharpness", "frame_difference"}),
        (blur, {"sharpness"}),
        (lambda frame: 100 + frame // 8, {"contrast", "sharpness"}),
    ],
)
def test_what_is_done_to_a_video_is_measured(original: Path, tmp_path: Path, change, smaller: set[str]) -> None:
    rewrite_video(original, tmp_path / "changed.mp4", change)
    before, after = asdict(measured(original)), asdict(measured(tmp_path / "changed.mp4"))
    for name in smaller:
        assert after[name] < 0.8 * before[name], name
    assert (after["duration"], after["resolution"]) == (before["duration"], before["resolution"])


def moving(pixels_per_frame: int, tmp_path: Path) -> VideoProperties:
    """A texture that slides to the right, 25 frames a second."""
    texture = np.random.default_rng(0).integers(0, 255, size=(SIZE // 8, SIZE // 8, 3)).repeat(8, 0).repeat(8, 1)
    frames = iter(range(1000))
    source = tmp_path / "source.mp4"
    source.write_bytes(draw_clip("left_clockwise", seed=0))
    path = tmp_path / f"{pixels_per_frame}.mp4"

    def slide(frame: np.ndarray) -> np.ndarray:
        picture = np.tile(texture, (2, 2, 1))[: frame.shape[0], : frame.shape[1]]
        return np.roll(picture, pixels_per_frame * next(frames), axis=1).astype(np.uint8)

    rewrite_video(source, path, slide)
    return measured(path)


def test_motion_is_displacement_over_time(tmp_path: Path) -> None:
    still, slow, fast = (moving(speed, tmp_path) for speed in (0, 1, 3))
    assert still.motion == 0
    # Of 128 pixels at 16 frames a second.
    assert slow.motion == pytest.approx(16 / 128, rel=0.25)
    assert fast.motion == pytest.approx(48 / 128, rel=0.25)
    assert still.frame_difference < slow.frame_difference < fast.frame_difference


def test_a_cut_makes_a_scene_diverse(original: Path, tmp_path: Path) -> None:
    frames = iter(range(1000))
    rewrite_video(original, tmp_path / "cut.mp4", lambda frame: frame if next(frames) < 20 else 255 - frame)
    assert measured(tmp_path / "cut.mp4").scene_diversity > 0.3 > 10 * measured(original).scene_diversity


def test_header_and_size_tell_the_rest(original: Path) -> None:
    properties = measured(original)
    assert (properties.duration, properties.resolution) == (2.5, 128)
    assert properties.bits_per_pixel == pytest.approx(8 * original.stat().st_size / (128 * 128 * 40))


def test_what_was_measured_is_noted_and_faults_are_not(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(original.read_bytes())
    files = [VideoFile(path, sha256([path])), VideoFile(tmp_path / "missing.mp4", "0" * 64)]
    first = measure_videos(files, Sampling(16, 4), cache_dir=tmp_path / "notes")
    assert first[0] == measured(original)
    assert isinstance(first[1], VideoError)
    path.unlink()
    second = measure_videos(files, Sampling(16, 4), cache_dir=tmp_path / "notes")
    assert second[0] == first[0]
    assert isinstance(second[1], VideoError)
    assert isinstance(measure_videos(files, Sampling(16, 2), cache_dir=tmp_path / "notes")[0], VideoError)


def test_what_the_check_reads_of_a_file_is_measured_with_it(original: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "test.mp4", tmp_path / "train.mp4"]
    for number, path in enumerate(paths):
        path.write_bytes(original.read_bytes() + bytes(number))
    inspections = inspect_videos(paths, Sampling(16, 4), measured=paths[:1], properties=tmp_path / "properties")
    files = [VideoFile(one.path, one.finding.digest) for one in inspections if one.finding is not None]
    for path in paths:
        path.unlink()
    first, second = measure_videos(files, Sampling(16, 4), cache_dir=tmp_path / "properties")
    assert first == measured(original)
    assert isinstance(second, VideoError)


def test_what_was_read_of_a_file_that_was_replaced_meanwhile_is_not_noted(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "clip.mp4", tmp_path / "other.mp4"
    path.write_bytes(original.read_bytes() + bytes(1))
    other.write_bytes(original.read_bytes() + b"x")
    shutil.copystat(path, other)

    def sample_and_replace(*arguments: Any) -> Any:
        clip = sample_clip(*arguments)
        other.replace(path)
        return clip

    monkeypatch.setattr(preflight, "sample_clip", sample_and_replace)
    inspect = preflight._Inspect(Sampling(16, 4), None, reread=False, properties=tmp_path / "properties")
    assert inspect(path, is_measured=True).finding is not None
    assert not (tmp_path / "properties").exists()


@pytest.mark.parametrize("size", [(16, 16), (640, 360), (360, 640)])
def test_any_shape_is_measured(tmp_path: Path, size: tuple[int, int]) -> None:
    from helpers import write_video

    properties = measured(write_video(tmp_path / "video.mp4", size=size, frames=3))
    assert properties.resolution == min(size)
    assert all(np.isfinite(value) for value in asdict(properties).values())


@pytest.mark.parametrize("size", [(100, 150), (131, 67), (64, 300), (40, 40)])
def test_pictures_are_scaled_down_as_pytorch_pools_them_and_exactly(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    scaled = _scale_down(frames, 64)
    assert scaled.flags.c_contiguous  # means over another order of memory are rounded otherwise
    exact = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(frames).movedim(-1, 1).double(), scaled.shape[1:3])
    assert min(scaled.shape[1:3]) == min(64, *size)
    assert np.array_equal(scaled, (exact / 255).float().movedim(1, -1).numpy())
