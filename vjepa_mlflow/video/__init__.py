"""Encoded files to sampled uint8 frames, and what is wrong with a file."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.video.cached import FileVersion, check_content, property_cache_dir, video_cache_dir
    from vjepa_mlflow.video.decode import read_clip
    from vjepa_mlflow.video.decoders import Content, Decoders, Descriptor, Reading
    from vjepa_mlflow.video.error import VideoError
    from vjepa_mlflow.video.gpu_decoder import GpuReaders
    from vjepa_mlflow.video.limits import OWN_FILES, Limits
    from vjepa_mlflow.video.preflight import Finding, Identity, Inspection, identify_videos, inspect_videos
    from vjepa_mlflow.video.properties import VideoFile, VideoProperties, measure_video, measure_videos
    from vjepa_mlflow.video.reader import ClipReader, ClipsRequest
    from vjepa_mlflow.video.sampling import Sampling, clip_positions
    from vjepa_mlflow.video.views import View, draw_view

__getattr__ = load_when_used(__name__)
