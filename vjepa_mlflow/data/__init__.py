"""Folders and tables to labelled, split samples; the demo set."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.data.demo import draw_clip
    from vjepa_mlflow.data.folders import find_videos
    from vjepa_mlflow.data.listing import DEMO, list_samples, locate_data, read_samples
    from vjepa_mlflow.data.samples import SPLITS, Sample, describe_samples, label_ids
    from vjepa_mlflow.data.splits import VideoDataset, make_dataset, undivided_groups

__getattr__ = load_when_used(__name__, __file__)
