"""Encoded files to sampled uint8 frames, and what is wrong with a file."""

from vjepa_mlflow.video.decode import VideoError, VideoInfo, VideoSource, read_clip, read_info
from vjepa_mlflow.video.preflight import Inspection, identify, inspect_videos
from vjepa_mlflow.video.properties import VideoFile, VideoProperties, measure_video, measure_videos
from vjepa_mlflow.video.reader import ClipReader, ClipRequest
from vjepa_mlflow.video.sampling import clip_positions
from vjepa_mlflow.video.views import View, draw_view

__all__ = [
    "ClipReader",
    "ClipRequest",
    "Inspection",
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
