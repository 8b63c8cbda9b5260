"""Folders and tables to labelled, split samples; the demo set."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.data.beginning import Beginning, split_rows
    from vjepa_mlflow.data.demo import DEMO, draw_clip
    from vjepa_mlflow.data.listing import locate_data, read_data, read_training_data
    from vjepa_mlflow.data.samples import (
        SPLITS,
        Listing,
        Sample,
        describe_contents,
        describe_samples,
        few,
        label_ids,
        ordered,
    )
    from vjepa_mlflow.data.seen import SeenVideos, joint_role, read_seen
    from vjepa_mlflow.data.splits import (
        ORDER,
        Role,
        VideoDataset,
        check_content,
        draw_missing,
        leave_out_small,
        make_dataset,
        undivided_groups,
    )
    from vjepa_mlflow.data.walk import find_videos

__getattr__ = load_when_used(__name__)
