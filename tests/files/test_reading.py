import os
import socket
from pathlib import Path

import pytest

from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.files.reading import NotAFileError, open_regular
from vjepa_mlflow.video.decoders import _open
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.limits import OWN_FILES
from vjepa_mlflow.video.opening import Source, open_video


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket.mp4"))
    for path in tmp_path.iterdir():
        with pytest.raises(NotAFileError, match=r"^not a file$"):
            open_regular(path)
        with pytest.raises(OSError, match="not a file"):
            sha256([path])
        with pytest.raises(VideoError, match="not a file"):
            _open(path, OWN_FILES)
        with pytest.raises(VideoError, match="not a file"), open_video(Source(path)):
            pass


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "file.mp4").touch()
    looked = (tmp_path / "file.mp4").stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: looked)
    with pytest.raises(NotAFileError):
        open_regular(tmp_path / "pipe.mp4")
