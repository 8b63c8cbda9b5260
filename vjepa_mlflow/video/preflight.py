"""A look at every video before anything depends on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow.digest import sha256
from vjepa_mlflow.iteration import map_ahead, progress
from vjepa_mlflow.video.decode import VideoError, read_clip


@dataclass(frozen=True)
class Inspection:
    """What the preflight found.

    Attributes:
        path: the file.
        digest: SHA-256 of its content, hexadecimal; empty for a file that cannot be read.
        fault: what is wrong with it, or None.
    """

    path: Path
    digest: str
    fault: str | None


def inspect_videos(paths: Sequence[Path], *, num_frames: int, stride: int) -> list[Inspection]:
    """Opens every file, decodes its centred clip and digests its content, several files at once."""

    def inspect(path: Path) -> Inspection:
        try:
            read_clip(path, num_frames=num_frames, stride=stride)
            return Inspection(path, sha256([path]), fault=None)
        except VideoError as error:
            return Inspection(path, "", fault=str(error))
        except OSError as error:
            return Inspection(path, "", fault=f"it cannot be read ({error.strerror})")

    return list(progress(map_ahead(inspect, paths), total=len(paths), description="Checking videos", unit="video"))
