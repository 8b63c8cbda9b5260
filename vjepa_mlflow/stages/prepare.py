"""Everything before the first clip is encoded: checked videos, their splits, a frozen backbone with a new head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from vjepa_mlflow import data, evaluation, flavor, model, tracking, video
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.energy import describe_hardware
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.stages.forms import Forms, Workload, choose_forms
from vjepa_mlflow.stages.seen import seen_by, seen_by_checkpoint
from vjepa_mlflow.stages.videos import check_classes, check_videos, tell_listing

logger = get_logger(__name__)


@dataclass(frozen=True)
class Preparation:
    """What a recipe's names stand for on this machine.

    Attributes:
        recipe: the values of the run.
        checkpoint: its model.
        dataset: its videos.
        head: for the dataset's classes, on its device.
        backbone: frozen, on the same device.
        forms: in which both compute.
        seen: what the trained head will have been trained, validated and tested on, with the model before it.
    """

    recipe: Recipe
    checkpoint: model.Checkpoint
    dataset: data.VideoDataset
    head: model.Head
    backbone: model.FrozenBackbone
    forms: Forms
    seen: data.SeenVideos

    @property
    def clip_shape(self) -> model.ClipShape:
        return model.ClipShape.of(self.backbone.architecture)

    @property
    def sampling(self) -> video.Sampling:
        return self.recipe.sampling(self.checkpoint.frames_per_clip)

    @property
    def parameters(self) -> model.ParameterCounts:
        trainable = model.count_parameters(self.head).trainable
        return model.ParameterCounts(self.backbone.known.parameters + trainable, trainable)


@dataclass(frozen=True)
class Resumed:
    """What a run, or a study, that goes on has from before.

    Attributes:
        params: of the run.
        beginning: the data and the checkpoint that it began with; None where it was stopped before that.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    beginning: data.Beginning | None = None


class Drawing(NamedTuple):
    """How missing splits are drawn: by which seed, and which videos keep the split that they are known in.

    None for those that the model before has seen.
    """

    seed: int
    role: data.Role | None = None


def prepare(
    recipe: Recipe,
    listing: data.Listing,
    *,
    log: tracking.RunLog | None = None,
    resumed: Resumed | None = None,
    drawing: Drawing | None = None,
    workload: Workload | None = None,
    share: Share | None = None,
) -> Preparation:
    """Finds the device and the checkpoint, checks the videos, and tells what was found.

    Args:
        recipe: the values of the run.
        listing: its videos, as `check_names` lists them.
        log: of the run that lists the videos that cannot be used; None where there is none.
        resumed: of a run or study that goes on; None for a new one.
        drawing: how missing splits are drawn; None for the recipe's seed.
        workload: how many heads are trained; None for one.
        share: this process's share, where several prepare the same.

    Raises:
        UserError: one of them is not as expected.
    """
    resumed = resumed or Resumed()
    device = model.use_device(recipe.device)
    checkpoint, before = find_checkpoint(recipe)
    logger.info(f"Model: {checkpoint.name} ({checkpoint.revision[:19]}) on {model.describe_device(device)}")
    if resumed.beginning is not None:
        resumed.beginning.check_revision(recipe.model, checkpoint)
    tell_listing(listing)
    samples = check_videos(
        listing.samples, recipe, num_frames=checkpoint.frames_per_clip, device=device, log=log, share=share
    )
    check_classes(recipe.data, listing.samples, samples)
    dataset = _make_dataset(recipe, samples, before, resumed.beginning, drawing or Drawing(recipe.seed))
    if before is None and model.keeps_classifier(checkpoint, dataset.labels):
        before = data.SeenVideos.nothing_of(checkpoint.name)
    _tell_seen(dataset, before)

    opened = model.open_checkpoint(checkpoint, dataset.labels, seed=recipe.seed, device=device)
    forms = choose_forms(opened, dataset, recipe, workload=workload or Workload(), resumed=resumed.params)
    seen = data.SeenVideos.of(dataset.splits, before)
    prepared = Preparation(recipe, checkpoint, dataset, opened.head, opened.backbone, forms, seen)
    _tell_parameters(prepared)
    return prepared


def find_checkpoint(recipe: Recipe) -> tuple[model.Checkpoint, data.SeenVideos | None]:
    """The checkpoint, and what its head has seen, if it was trained here."""
    name = model.choose(recipe.model, demo=recipe.data == data.DEMO)
    cache_dir = model.model_cache_dir(recipe.cache)
    if not name.startswith(flavor.URI_SCHEMES):
        checkpoint = model.locate(name, cache_dir=cache_dir)
        return checkpoint, seen_by_checkpoint(name, checkpoint.folder)
    fetched = flavor.fetch_model(name)
    before, now = fetched.sampling(1), recipe.sampling(1)
    if before != now:
        logger.warning(f"{name} was trained with {before}, this is with {now}")
    return fetched.as_checkpoint(cache_dir=cache_dir), seen_by(name, fetched)


def _make_dataset(
    recipe: Recipe,
    samples: list[data.Sample],
    before: data.SeenVideos | None,
    beginning: data.Beginning | None,
    drawing: Drawing,
) -> data.VideoDataset:
    """The three sets: those of the beginning, or what the data gives and else is drawn."""
    if beginning is not None:
        dataset = beginning.dataset(recipe.data, samples)
    else:
        role = drawing.role or data.joint_role([] if before is None else [before])
        dataset = data.make_dataset(recipe.data, samples, seed=drawing.seed, role=role)
    _tell_dataset(dataset, recipe)
    return dataset


def _tell_dataset(dataset: data.VideoDataset, recipe: Recipe) -> None:
    sizes = ", ".join(f"{len(samples)} {split}" for split, samples in dataset.splits.items())
    drawn = f" ({' and '.join(dataset.drawn)} drawn from train, seed {dataset.seed})" if dataset.drawn else ""
    logger.info(f"Data: {recipe.data}, {len(dataset.labels)} classes, {sizes}{drawn}")
    doubles = dataset.doubles()
    if doubles:
        logger.info(f"Note: {len(doubles)} contents lie there more than once: {data.few(doubles)}")
    for note in [*dataset.remarks(), *describe_test_groups(dataset)]:
        logger.info(f"Note: {note}")


def describe_test_groups(dataset: data.VideoDataset) -> list[str]:
    """Whether the test set has groups, and too few of them for intervals."""
    test = dataset.splits["test"]
    groups = len(set(data.undivided_groups(test)))
    if groups == len(test) or groups >= evaluation.FEWEST:
        return []
    are = "1 group" if groups == 1 else f"{groups} groups"
    return [f"test consists of {are}: figures of fewer than {evaluation.FEWEST} have no intervals"]


def _tell_seen(dataset: data.VideoDataset, before: data.SeenVideos | None) -> None:
    """Says where the sets hold what the model before them has learnt from, or may have."""
    if before is None:
        return
    if before.unknown:
        logger.info(f"Note: what {', '.join(before.unknown)} was trained on is not known: perhaps on these videos")
    for split in data.SPLITS[1:]:
        counts = before.count(dataset.splits[split])
        if seen_before := counts["train"] + (counts["val"] if split == "test" else 0):
            logger.info(
                f"Note: {seen_before} of the {split} videos were trained or validated on before: the {split} figures "
                f"are not those of a test"
            )
        elif groups := before.groups_trained_on(dataset.splits[split]):
            logger.info(f"Note: the model before was trained on groups of these names in {split}: {data.few(groups)}")


def _tell_parameters(prepared: Preparation) -> None:
    counts = prepared.parameters
    logger.info(f"Parameters: {counts.total:,} in all, {counts.trainable:,} trained (the head)")
    if drawn := model.drawn_anew(prepared.checkpoint, prepared.dataset.labels):
        logger.info(f"Drawn anew, seed {prepared.recipe.seed}: {' and '.join(drawn)}")


def log_preparation(log: tracking.RunLog, prepared: Preparation) -> None:
    """Logs the checkpoint, the device, the forms in which things are computed, and the three sets."""
    counts = prepared.parameters
    log.params(
        {
            "checkpoint": prepared.checkpoint.name,
            "checkpoint_revision": prepared.checkpoint.revision,
            "total_parameters": counts.total,
            "trainable_parameters": counts.trainable,
            "device_name": model.describe_device(prepared.backbone.device),
            "hardware": describe_hardware(),
            **prepared.forms.params(),
        }
    )
    log.dataset(prepared.dataset, data=prepared.recipe.data)
