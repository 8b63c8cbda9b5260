"""Folders and tables to labelled, split samples; the demo set."""

from vjepa_mlflow.data.demo import draw_clip
from vjepa_mlflow.data.folders import find_videos
from vjepa_mlflow.data.listing import DEMO, list_samples, locate_data, read_samples
from vjepa_mlflow.data.samples import SPLITS, Sample, describe_samples, label_ids
from vjepa_mlflow.data.splits import VideoDataset, make_dataset, undivided_groups

__all__ = [
    "DEMO",
    "SPLITS",
    "Sample",
    "VideoDataset",
    "describe_samples",
    "draw_clip",
    "find_videos",
    "label_ids",
    "list_samples",
    "locate_data",
    "make_dataset",
    "read_samples",
    "undivided_groups",
]
