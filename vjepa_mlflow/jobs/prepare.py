"""Everything before the first epoch: checked videos, their splits, a frozen backbone with a new head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vjepa_mlflow import data, flavor, model, tracking, video
from vjepa_mlflow.cache import cache_folder
from vjepa_mlflow.energy import check_country, describe_hardware
from vjepa_mlflow.errors import UserError, printable
from vjepa_mlflow.ranks import Share
from vjepa_mlflow.recipe import Recipe

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

SHOWN_FAULTS = 20
URI_SCHEMES = ("models:/", "runs:/")


Fault = dict[str, str]
"""A video that cannot be used: `path`, and `fault`, what is wrong with it."""


@dataclass(frozen=True)
class Preparation:
    """What a recipe's names stand for on this machine."""

    checkpoint: model.Checkpoint
    dataset: data.VideoDataset
    classifier: VJEPA2ForVideoClassification
    processor: VJEPA2VideoProcessor


def check_names(recipe: Recipe) -> list[data.Sample]:
    """Lists the videos that a recipe names, and refuses what else it names that is not there.

    For mistakes to be told at once: whatever can be known without PyTorch, transformers and MLflow, which take seconds
    to import, comes first.

    Raises:
        UserError: something is not as expected; no run needs to begin.
    """
    check_country(recipe.country)
    model.check_name(recipe.model)
    samples = data.list_samples(recipe.data)
    if recipe.device not in ("auto", "cpu"):
        model.choose_device(recipe.device)  # the last of them, since it imports PyTorch
    return samples


def prepare(
    recipe: Recipe,
    samples: Sequence[data.Sample],
    *,
    on_faults: Callable[[list[Fault]], None] = lambda _: None,
    share: Share | None = None,
) -> Preparation:
    """Finds the device and the checkpoint, checks the videos, and tells what was found.

    Args:
        recipe: the values of the run.
        samples: its videos, as `check_names` lists them.
        on_faults: is given the videos that cannot be used, if any, before they stop the run.
        share: this process's share, where several prepare the same.

    Raises:
        UserError: one of them is not as expected.
    """
    device = model.use_device(recipe.device)
    checkpoint = _find_checkpoint(recipe)
    print(f"Model: {checkpoint.name} ({checkpoint.revision[:19]}) on {model.describe_device(device)}")

    usable = check_videos(samples, recipe, num_frames=checkpoint.frames_per_clip, on_faults=on_faults, share=share)
    _check_classes(recipe.data, samples, usable)
    dataset = data.make_dataset(recipe.data, usable, seed=recipe.seed)
    _print_dataset(dataset, recipe)

    classifier = model.load_classifier(checkpoint, dataset.labels, seed=recipe.seed).to(device)
    counts = model.count_parameters(classifier)
    print(f"Parameters: {counts.total:,} in all, {counts.trainable:,} trained (the head)", flush=True)
    return Preparation(checkpoint, dataset, classifier, model.load_processor(checkpoint))


def _find_checkpoint(recipe: Recipe) -> model.Checkpoint:
    name = model.choose(recipe.model, demo=recipe.data == data.DEMO)
    return flavor.fetch_checkpoint(name) if name.startswith(URI_SCHEMES) else model.locate(name)


def check_videos(
    samples: Sequence[data.Sample],
    recipe: Recipe,
    *,
    num_frames: int,
    on_faults: Callable[[list[Fault]], None],
    share: Share | None = None,
) -> list[data.Sample]:
    """Returns the samples that can be decoded, with their digests; lists the others, and stops if so told.

    Args:
        samples: the videos.
        recipe: `data`, `stride`, `bad_videos` and `cache` are used.
        num_frames: frames of a clip.
        on_faults: is given the videos that cannot be used, if any, before they are listed.
        share: this process's share, where several check the same.

    Raises:
        UserError: videos cannot be used, and the recipe does not say to leave them out.
    """
    inspections = video.inspect_videos(
        [sample.path for sample in samples],
        num_frames=num_frames,
        stride=recipe.stride,
        notes=cache_folder() / "videos" if recipe.cache == "disk" else None,
        share=share,
    )
    usable = []
    faults: list[Fault] = []
    for sample, inspection in zip(samples, inspections, strict=True):
        if inspection.fault is None:
            usable.append(
                replace(sample, digest=inspection.digest, seconds=inspection.seconds, version=inspection.version)
            )
        else:
            faults.append({"path": sample.name, "fault": inspection.fault})
    if faults:
        on_faults(faults)
        _print_faults(faults)
        count = f"{len(faults)} of {len(samples)} videos"
        if recipe.bad_videos == "stop":
            raise UserError(
                f"data={recipe.data}: {count} cannot be used, the first is {faults[0]['path']}: "
                f"expected readable videos; mend them, or leave them out with bad_videos=skip"
            )
        print(f"Left out {count} (bad_videos=skip)")
    return usable


def _check_classes(name: str, samples: Sequence[data.Sample], usable: Sequence[data.Sample]) -> None:
    lost = {sample.label for sample in samples} - {sample.label for sample in usable}
    if lost:
        raise UserError(f"data={name}: no video of class '{min(lost)}' can be used: expected at least one")


def _print_faults(faults: Sequence[Fault]) -> None:
    for fault in faults[:SHOWN_FAULTS]:
        print(printable(f"{fault['path']}: {fault['fault']}"))
    if len(faults) > SHOWN_FAULTS:
        print(f"... and {len(faults) - SHOWN_FAULTS} more")


def _print_dataset(dataset: data.VideoDataset, recipe: Recipe) -> None:
    sizes = ", ".join(f"{len(samples)} {split}" for split, samples in dataset.splits.items())
    drawn = f" ({' and '.join(dataset.drawn)} drawn from train, seed {recipe.seed})" if dataset.drawn else ""
    print(printable(f"Data: {recipe.data}, {len(dataset.labels)} classes, {sizes}{drawn}"))


def log_faults(log: tracking.RunLog, faults: list[Fault]) -> None:
    """Logs the videos that cannot be used, before they are listed."""
    log.table(faults, "bad_videos.csv")
    print("Videos that cannot be used, all in the run's artifact bad_videos.csv:")


def log_left_out(log: tracking.RunLog, left_out: Mapping[str, str]) -> None:
    """Logs the videos that went bad after the check, by name, with what is wrong with them, if there are any."""
    if left_out:
        log.table([{"path": name, "fault": fault} for name, fault in left_out.items()], "left_out_videos.csv")


def log_preparation(log: tracking.RunLog, prepared: Preparation, recipe: Recipe) -> None:
    """Logs the checkpoint, the device and the three sets."""
    counts = model.count_parameters(prepared.classifier)
    log.params(
        {
            "checkpoint": prepared.checkpoint.name,
            "checkpoint_revision": prepared.checkpoint.revision,
            "total_parameters": counts.total,
            "trainable_parameters": counts.trainable,
            "device_name": model.describe_device(prepared.classifier.device),
            "hardware": describe_hardware(),
        }
    )
    log.dataset(prepared.dataset, data=recipe.data)
