"""What is remembered of video files, for as long as they are what they were."""

import os
from pathlib import Path

import numpy as np
import pytest

from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.video import VideoError
from vjepa_mlflow.video.cached import (
    LEAST_BYTES,
    cache_path,
    cache_timeline,
    cached_timeline,
    check_content,
    file_version,
    forget,
    property_cache_dir,
    video_cache_dir,
)
from vjepa_mlflow.video.timeline import Timeline


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A large one, without content."""
    path = tmp_path / "video.mp4"
    path.touch()
    os.truncate(path, LEAST_BYTES)
    return path


def timeline(*, decoded: bool = False) -> Timeline:
    return Timeline(
        seconds=np.array([0.0, 0.04]),
        stamps=np.array([0, 512]),
        keys=np.array([0]),
        key_positions=np.array([-512]),
        timed=True,
        declared_rate=25.0,
        pixels=640 * 480,
        missing=3,
        decoded=decoded,
    )


def test_a_timeline_is_found_again_with_all_that_it_says(file: Path, tmp_path: Path) -> None:
    version = file_version(file)
    cache_timeline(tmp_path / "cache", file, version, timeline())
    found = cached_timeline(tmp_path / "cache", file, version)
    assert found is not None
    for name, value in vars(timeline()).items():
        assert np.array_equal(getattr(found, name), value), name


def test_of_a_file_that_has_changed_nothing_is_found(file: Path, tmp_path: Path) -> None:
    version = file_version(file)
    cache_timeline(tmp_path / "cache", file, version, timeline())
    os.truncate(file, LEAST_BYTES + 1)
    assert cached_timeline(tmp_path / "cache", file, version) is None
    assert cached_timeline(tmp_path / "cache", file, file_version(file)) is None


def test_what_is_made_as_fast_as_it_is_read_is_not_cached(file: Path, tmp_path: Path) -> None:
    os.truncate(file, LEAST_BYTES - 1)
    version = file_version(file)
    cache_timeline(tmp_path / "cache", file, version, timeline())
    assert cached_timeline(tmp_path / "cache", file, version) is None
    cache_timeline(tmp_path / "cache", file, version, timeline(decoded=True))
    assert cached_timeline(tmp_path / "cache", file, version) is not None


def test_without_a_folder_nothing_is_cached_and_nothing_is_an_error(file: Path) -> None:
    version = file_version(file)
    cache_timeline(None, file, version, timeline())
    assert cached_timeline(None, file, version) is None
    assert cache_path(None, file, version, "timeline") is None
    forget(None, file, version)


def test_all_that_is_cached_of_a_file_is_forgotten_and_nothing_else(file: Path, tmp_path: Path) -> None:
    other = file.with_name("other.mp4")
    other.touch()
    os.truncate(other, LEAST_BYTES)
    for path in (file, other):
        cache_timeline(tmp_path / "cache", path, file_version(path), timeline())
    forget(tmp_path / "cache", file, file_version(file))
    assert cached_timeline(tmp_path / "cache", file, file_version(file)) is None
    assert cached_timeline(tmp_path / "cache", other, file_version(other)) is not None


def test_another_content_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "video.mp4"
    file.write_bytes(b"one")
    digest = sha256([file])
    check_content(file, digest)
    file.write_bytes(b"two")
    with pytest.raises(VideoError, match="it has changed since it was checked"):
        check_content(file, digest)
    file.unlink()
    with pytest.raises(VideoError, match="it cannot be read"):
        check_content(file, digest)


def test_only_a_cache_on_disk_has_folders() -> None:
    for folder in (video_cache_dir, property_cache_dir):
        assert folder("disk") is not None
        assert folder("memory") is folder("off") is None
