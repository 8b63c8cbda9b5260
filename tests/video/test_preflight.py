import hashlib
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from helpers import write_video

from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.video import Inspection, Sampling, cached, decode, inspect_videos, preflight
from vjepa_mlflow.video.decode import sample_clip
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.timeline import Timeline, read_timeline


def test_every_file_is_reported_in_its_place(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    found = inspect_videos([good, empty, tmp_path / "missing.mp4"], Sampling(16, 4))
    assert [inspection.path.name for inspection in found] == ["good.mp4", "empty.mp4", "missing.mp4"]
    assert [inspection.finding is not None for inspection in found] == [True, False, False]
    finding = found[0].finding
    assert finding is not None
    assert finding.digest == hashlib.sha256(good.read_bytes()).hexdigest()
    assert finding.seconds == pytest.approx(64 / 25)


def video_and_notes(tmp_path: Path) -> tuple[Path, Path]:
    return write_video(tmp_path / "clip.mp4"), tmp_path / "notes"


def inspect(path: Path, cache_dir: Path | None, *, stride: int = 4, reread: bool = False) -> Inspection:
    (found,) = inspect_videos([path], Sampling(16, stride), cache_dir=cache_dir, reread=reread)
    return found


def replace(path: Path, content: bytes) -> None:
    """Gives a video another content of its size, with its modification time."""
    status = path.stat()
    path.write_bytes(content.ljust(status.st_size, b"x"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


class Unopened:
    """A stream of which no item is to be taken."""

    def __init__(self, _: Any, items: Iterator[Any], **__: Any):
        self._items = items

    def take(self) -> None:
        for _ in self._items:
            raise ZeroDivisionError

    def close(self) -> None: ...


def test_a_file_that_was_noted_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache_dir = video_and_notes(tmp_path)
    first = inspect(path, cache_dir)
    with monkeypatch.context() as patch:
        patch.setattr(preflight, "Stream", Unopened)
        assert inspect(path, cache_dir) == first
        with pytest.raises(ZeroDivisionError):
            inspect(path, cache_dir, stride=2)  # which reads other frames
        with pytest.raises(ZeroDivisionError):
            inspect(path, cache_dir, reread=True)


def test_a_file_that_is_replaced_by_another_of_its_size_and_time_is_told(tmp_path: Path) -> None:
    path, cache_dir = video_and_notes(tmp_path)
    inspect(path, cache_dir, stride=2)
    first = inspect(path, cache_dir)
    other = write_video(tmp_path / "other.mp4", frames=60).read_bytes()
    replace(path, other)
    again = inspect(path, cache_dir)
    assert (again.version, again.replaced, first.replaced) == (first.version, True, False)
    assert again.finding
    assert again.finding.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert inspect(path, cache_dir) == Inspection(path, again.finding, again.version)
    replace(path, b"no video")
    assert inspect(path, cache_dir).replaced
    assert inspect(path, cache_dir, stride=2).fault


def test_what_a_damaged_disk_changes_is_found_by_who_rereads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache_dir = video_and_notes(tmp_path)
    first, of_other_frames = inspect(path, cache_dir), inspect(path, cache_dir, stride=2)
    other = write_video(tmp_path / "other.mp4", frames=60).read_bytes()
    status = path.stat()
    replace(path, other)
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **named: status if self == path else stat(self, **named))
    assert (inspect(path, cache_dir), inspect(path, cache_dir, stride=2)) == (first, of_other_frames)
    assert inspect(path, cache_dir, reread=True).replaced
    for stride in (2, 4):
        found = inspect(path, cache_dir, stride=stride).finding
        assert found
        assert found.digest != first.finding.digest if first.finding else False


def test_a_file_that_lacks_its_end_is_a_fault(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mkv", frames=200, codec="mpeg4", size=(320, 240))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    fault = inspect(path, None).fault
    assert fault.startswith("cut off or damaged: ")
    assert fault.endswith(" of its 200 frames are there")


def test_a_file_that_changed_is_opened_again(tmp_path: Path) -> None:
    path, cache_dir = video_and_notes(tmp_path)
    before = inspect(path, cache_dir)
    write_video(path, frames=50)
    after = inspect(path, cache_dir)
    assert before.finding
    assert after.finding
    assert after.finding.digest != before.finding.digest


def test_bad_files_and_bad_notes_are_not_remembered(tmp_path: Path) -> None:
    path, cache_dir = video_and_notes(tmp_path)
    expected = inspect(path, cache_dir)
    (note,) = (file for file in cache_dir.rglob("*") if file.is_file())
    note.write_text("nonsense")
    again = inspect(path, cache_dir).finding
    assert again is not None
    assert expected.finding is not None
    assert again._replace(pace=0) == expected.finding._replace(pace=0)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert inspect(empty, cache_dir).fault == "it is empty"
    assert len([file for file in cache_dir.rglob("*") if file.is_file()]) == 1


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_every_rank_finds_all_in_their_places(tmp_path: Path, rank: int) -> None:
    paths = [write_video(tmp_path / f"{number}.mp4", frames=30 + number) for number in range(5)]
    found = inspect_videos(paths, Sampling(16, 4), cache_dir=tmp_path / "notes", share=Share(rank, 3))
    assert [inspection.path for inspection in found] == paths
    assert len({inspection.finding for inspection in found}) == 5


def test_a_large_files_packets_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = video_and_notes(tmp_path)
    version, read = cached.file_version(path), read_timeline(Source(path))
    cached.cache_timeline(folder, path, version, read)
    assert cached.cached_timeline(folder, path, version) is None  # a small one's
    monkeypatch.setattr(cached, "LEAST_BYTES", 0)
    cached.cache_timeline(folder, path, version, read)
    found = cached.cached_timeline(folder, path, version)
    assert found is not None
    assert {field.name: str(getattr(found, field.name)) for field in fields(Timeline)} == {
        field.name: str(getattr(read, field.name)) for field in fields(Timeline)
    }
    monkeypatch.setattr(decode, "read_timeline", None)
    clip = sample_clip(Source(path), Sampling(16), 0.5, found)
    assert clip.frames.shape == (16, 48, 64, 3)
    assert cached.cached_timeline(folder, path, version._replace(size=1)) is None
    assert cached.cached_timeline(None, path, version) is None
