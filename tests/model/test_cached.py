"""Which files are the same, as far as can be told without reading them."""

import os
from pathlib import Path

import pytest

from vjepa_mlflow.model.cached import cache_path, have_changed, model_cache_dir, state_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    return path


def test_a_file_is_the_same_until_something_of_it_changes(file: Path) -> None:
    before = state_of([file])
    assert state_of([file]) == before
    file.chmod(0o600 if file.stat().st_mode & 0o077 else 0o640)
    now = state_of([file])
    assert now != before  # what was cached is looked at again
    assert not have_changed(before, now)  # and yet its content is the same


@pytest.mark.parametrize("content", [b"abcd", b"xyz"])
def test_another_content_is_another_file(file: Path, content: bytes) -> None:
    before, time = state_of([file]), file.stat().st_mtime_ns
    file.write_bytes(content)
    os.utime(file, ns=(time, time + 1))
    assert have_changed(before, state_of([file]))


def test_a_file_that_is_gone_has_changed_and_is_no_error(file: Path) -> None:
    before = state_of([file])
    file.unlink()
    assert state_of([file])[0].size == -1
    assert have_changed(before, state_of([file]))


def test_a_link_is_what_it_leads_to(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert state_of([link])[0][1:] == state_of([file])[0][1:]


def test_values_lie_by_what_they_are_about(tmp_path: Path) -> None:
    assert cache_path(None, "digest", 1) is None
    paths = {cache_path(tmp_path, *about) for about in [("digest", 1), ("digest", 2), ("other", 1)]}
    assert len(paths) == 3
    assert cache_path(tmp_path, "digest", 1) in paths


def test_only_a_cache_on_disk_has_a_folder() -> None:
    assert model_cache_dir("disk") is not None
    assert model_cache_dir("memory") is None
    assert model_cache_dir("off") is None
