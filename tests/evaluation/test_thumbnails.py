"""Thumbnails of videos, and those that were made before."""

from pathlib import Path

import numpy as np
import pytest
from helpers import write_video

from vjepa_mlflow.evaluation import choose_thumbnails, read_thumbnails, thumbnail_cache_dir, thumbnails
from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.video import Sampling, VideoError, VideoFile, read_clip

SAMPLING = Sampling(num_frames=8, stride=2)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> VideoFile:
    path = write_video(tmp_path_factory.mktemp("videos") / "video.mp4", frames=20)
    return VideoFile(path, sha256([path]))


def read_here(file: VideoFile, cache: Path | None) -> np.ndarray | VideoError:
    """As a process of `read_thumbnails` does."""
    return thumbnails._Read(SAMPLING, cache)(file)


def test_thumbnails_are_those_of_the_centred_clip_and_kept_to_the_bit(file: VideoFile, tmp_path: Path) -> None:
    expected = choose_thumbnails(read_clip(file.path, **vars(SAMPLING)))
    assert np.array_equal(read_here(file, tmp_path), expected)
    gone = file._replace(path=tmp_path / "gone.mp4")
    (kept,) = read_thumbnails([gone], SAMPLING, kept=tmp_path)
    assert isinstance(kept, np.ndarray)
    assert (kept.dtype, kept.shape[0], kept.shape[-1]) == (np.uint8, 6, 3)
    assert np.array_equal(kept, expected)


def test_a_video_of_another_content_gets_none_of_them(file: VideoFile, tmp_path: Path) -> None:
    read_here(file, tmp_path)
    kept = thumbnails._Read(SAMPLING, tmp_path)
    assert kept.cached(file.digest) is not None
    assert kept.cached("0" * 64) is None
    assert thumbnails._Read(Sampling(num_frames=8, stride=1), tmp_path).cached(file.digest) is None


def test_a_file_that_changed_since_is_an_error_and_nothing_is_kept_of_it(file: VideoFile, tmp_path: Path) -> None:
    changed = file._replace(digest="0" * 64)
    assert isinstance(read_here(changed, tmp_path), VideoError)
    assert not list(tmp_path.iterdir())


def test_what_is_damaged_is_made_again(file: VideoFile, tmp_path: Path) -> None:
    read_here(file, tmp_path)
    (place,) = (path for path in tmp_path.rglob("*") if path.is_file())
    content = place.read_bytes()
    for damaged in (b"", content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
        place.write_bytes(damaged)
        assert thumbnails._Read(SAMPLING, tmp_path).cached(file.digest) is None
    read_here(file, tmp_path)
    assert place.read_bytes() == content


def test_the_recipe_says_whether_they_are_kept(file: VideoFile) -> None:
    assert thumbnail_cache_dir("disk") == cache_folder() / "thumbnails"
    assert thumbnail_cache_dir("off") is None
    assert isinstance(read_here(file, None), np.ndarray)
