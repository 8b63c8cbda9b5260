"""Encoded files to sampled uint8 frames, and what is wrong with a file.

The public names load their modules only once they are used: the program that decodes uploads needs no torch.
"""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.video.decode import VideoInfo, VideoSource, read_clip, read_info
    from vjepa_mlflow.video.decoders import Decoders, Reading
    from vjepa_mlflow.video.error import VideoError
    from vjepa_mlflow.video.limits import Limits
    from vjepa_mlflow.video.preflight import FileVersion, Inspection, identify, inspect_videos
    from vjepa_mlflow.video.properties import VideoFile, VideoProperties, measure_video, measure_videos
    from vjepa_mlflow.video.reader import ClipReader, ClipRequest
    from vjepa_mlflow.video.sampling import clip_positions
    from vjepa_mlflow.video.views import View, draw_view

_MODULES = {
    "decode": ("VideoInfo", "VideoSource", "read_clip", "read_info"),
    "decoders": ("Decoders", "Reading"),
    "error": ("VideoError",),
    "limits": ("Limits",),
    "preflight": ("FileVersion", "Inspection", "identify", "inspect_videos"),
    "properties": ("VideoFile", "VideoProperties", "measure_video", "measure_videos"),
    "reader": ("ClipReader", "ClipRequest"),
    "sampling": ("clip_positions",),
    "views": ("View", "draw_view"),
}

__all__ = [
    "ClipReader",
    "ClipRequest",
    "Decoders",
    "FileVersion",
    "Inspection",
    "Limits",
    "Reading",
    "VideoError",
    "VideoFile",
    "VideoInfo",
    "VideoProperties",
    "VideoSource",
    "View",
    "clip_positions",
    "draw_view",
    "identify",
    "inspect_videos",
    "measure_video",
    "measure_videos",
    "read_clip",
    "read_info",
]

__getattr__ = load_when_used(__name__, _MODULES)
