"""Everything before the first epoch: checked videos, their splits, a frozen backbone with a new head."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from vjepa_mlflow import data, evaluation, features, flavor, model, tracking, video
from vjepa_mlflow.bad_videos import BadVideos
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.energy import check_country, describe_hardware
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.stages.seen import seen_by, seen_by_checkpoint

logger = get_logger(__name__)

if TYPE_CHECKING:
    import torch

SHOWN_FAULTS = 20
APART = 1.25
"""How many times as fast one frame rate is as another for the same stride to mean different times: 24 and 30."""

SHOWN_REFUSED = 3
"""Of videos that a server would refuse for one limit."""

Fault = dict[str, str]
"""A video that cannot be used: `path`, and `fault`, what is wrong with it."""


@dataclass(frozen=True)
class Preparation:
    """What a recipe's names stand for on this machine.

    Attributes:
        checkpoint: its model.
        dataset: its videos.
        head: for the dataset's classes, on its device.
        backbone: frozen, on the same device.
        seen: what the trained head will have been trained, validated and tested on, with the model before it.
    """

    checkpoint: model.Checkpoint
    dataset: data.VideoDataset
    head: model.Head
    backbone: model.FrozenBackbone
    seen: data.SeenVideos

    @property
    def clip_shape(self) -> model.ClipShape:
        return model.ClipShape.of(self.backbone.architecture)

    @property
    def parameters(self) -> model.ParameterCounts:
        trainable = model.count_parameters(self.head).trainable
        return model.ParameterCounts(self.backbone.known.parameters + trainable, trainable)


class Drawing(NamedTuple):
    """How missing splits are drawn: by which seed, and which videos keep the split that they are known in.

    None for those that the model before has seen.
    """

    seed: int
    role: data.Role | None = None


def check_names(recipe: Recipe) -> data.Listing:
    """Lists the videos that a recipe names, and refuses what else it names that is not there.

    For mistakes to be told at once: whatever can be known without PyTorch, transformers and MLflow, which take seconds
    to import, comes first.

    Raises:
        UserError: something is not as expected; no run needs to begin.
    """
    check_country(recipe.country)
    model.check_name(recipe.model)
    listing = data.read_training_data(recipe.data, min_videos=recipe.min_videos)
    if recipe.device not in ("auto", "cpu"):
        model.choose_device(recipe.device)  # the last of them, since it imports PyTorch
    return listing


def prepare(
    recipe: Recipe,
    listing: data.Listing,
    *,
    began: data.Beginning | None = None,
    drawing: Drawing | None = None,
    on_faults: Callable[[list[Fault]], None] = lambda _: None,
    share: Share | None = None,
) -> Preparation:
    """Finds the device and the checkpoint, checks the videos, and tells what was found.

    Args:
        recipe: the values of the run.
        listing: its videos, as `check_names` lists them.
        began: what a run that goes on began with.
        drawing: how missing splits are drawn; None for the recipe's seed.
        on_faults: is given the videos that cannot be used, if any, before they stop the run.
        share: this process's share, where several prepare the same.

    Raises:
        UserError: one of them is not as expected.
    """
    device = model.use_device(recipe.device)
    checkpoint, before = find_checkpoint(recipe)
    logger.info(f"Model: {checkpoint.name} ({checkpoint.revision[:19]}) on {model.describe_device(device)}")
    if began is not None:
        began.check_revision(recipe.model, checkpoint)
    print_listing(listing)

    samples = listing.samples
    usable = check_videos(
        samples,
        recipe,
        num_frames=checkpoint.frames_per_clip,
        on_faults=on_faults,
        device=device,
        share=share,
    )
    check_classes(recipe.data, samples, usable)
    if began is not None:
        dataset = began.dataset(recipe.data, usable)
    else:
        seed, role = drawing or Drawing(recipe.seed)
        role = role or data.joint_role([] if before is None else [before])
        dataset = data.make_dataset(recipe.data, usable, seed=seed, role=role)
    _print_dataset(dataset, recipe)
    if before is None and model.keeps_classifier(checkpoint, dataset.labels):
        before = data.SeenVideos.nothing_of(checkpoint.name)
    seen = data.SeenVideos.of(dataset.splits, before)
    _print_seen(dataset, before)

    opened = model.open_checkpoint(checkpoint, dataset.labels, seed=recipe.seed, device=device)
    prepared = Preparation(checkpoint, dataset, *opened, seen)
    counts = prepared.parameters
    logger.info(f"Parameters: {counts.total:,} in all, {counts.trainable:,} trained (the head)")
    if drawn := model.drawn_anew(checkpoint, dataset.labels):
        logger.info(f"Drawn anew, seed {recipe.seed}: {' and '.join(drawn)}")
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


def check_videos(
    samples: Sequence[data.Sample],
    recipe: Recipe,
    *,
    num_frames: int,
    on_faults: Callable[[list[Fault]], None],
    device: torch.device,
    share: Share | None = None,
    measured: str = "test",
) -> list[data.Sample]:
    """Returns the samples that can be decoded, with their digests; lists the others, and stops if so told.

    Args:
        samples: the videos.
        recipe: `data`, `stride`, `frames_per_second`, `bad_videos` and `cache` are used.
        num_frames: frames of a clip.
        on_faults: is given the videos that cannot be used, if any, before they are listed.
        device: a GPU's decoder reads, too.
        share: this process's share, where several check the same.
        measured: the split, or "all", of which the properties will be asked for; they are measured where it is given.

    Raises:
        UserError: videos cannot be used, and the recipe does not say to leave them out.
    """
    inspections = video.inspect_videos(
        [sample.path for sample in samples],
        recipe.sampling(num_frames),
        cache_dir=video.video_cache_dir(recipe.cache),
        share=share,
        measured=[sample.path for sample in samples if measured in ("all", sample.split)],
        properties=video.property_cache_dir(recipe.cache),
        gpu_readers=features.gpu_readers(device),
    )
    usable, faults = take_usable(samples, inspections)
    _print_notes(
        describe_rates(recipe, [one.finding for one in inspections if one.finding is not None]),
        describe_refusals(refusals(samples, inspections), shown=SHOWN_REFUSED),
        describe_replaced(samples, inspections),
    )
    if faults:
        on_faults(faults)
        _print_faults(faults)
        count = f"{len(faults)} of {len(samples)} videos"
        policy = BadVideos(recipe.bad_videos)
        logger.info(policy.before_training(recipe.data, count=count, first=faults[0]["path"]))
    return usable


def take_usable(
    samples: Sequence[data.Sample], inspections: Sequence[video.Inspection]
) -> tuple[list[data.Sample], list[Fault]]:
    """The samples that can be decoded, with what was found of them, and the others."""
    usable = []
    faults: list[Fault] = []
    for sample, inspection in zip(samples, inspections, strict=True):
        if (found := inspection.finding) is not None:
            usable.append(replace(sample, digest=found.digest, seconds=found.seconds, version=inspection.version))
        else:
            faults.append({"path": sample.name, "fault": inspection.fault})
    return usable, faults


def _print_notes(*notes: Sequence[str]) -> None:
    """Each of them with its first line as the head of the others."""
    for head, *lines in filter(None, notes):
        logger.info(f"Note: {head}")
        for line in lines:
            logger.info(f"  {line}")


def describe_rates(recipe: Recipe, findings: Sequence[video.Finding]) -> list[str]:
    """Whether the recipe's stride means different times in different videos."""
    rates = sorted(one.frames_per_second for one in findings)
    if not rates or recipe.frames_per_second:
        return []
    stride, median = recipe.stride, statistics.median_low(rates)
    others = sum(max(rate, median) >= APART * min(rate, median) for rate in rates)
    if not others:
        return []
    return [
        f"stride={stride} is {stride / rates[-1]:.3g} s from frame to frame at {rates[-1]:.4g} frames a second and "
        f"{stride / rates[0]:.3g} s at {rates[0]:.4g}; {others} of {len(rates)} videos are a quarter or more off the "
        f"median rate, {median:.4g}; frames_per_second={median / stride:.4g} means the same time in all"
    ]


def describe_test_groups(dataset: data.VideoDataset) -> list[str]:
    """Whether the test set has groups, and too few of them for intervals."""
    test = dataset.splits["test"]
    groups = len(set(data.undivided_groups(test)))
    if groups == len(test) or groups >= evaluation.FEWEST:
        return []
    are = "1 group" if groups == 1 else f"{groups} groups"
    return [f"test consists of {are}: figures of fewer than {evaluation.FEWEST} have no intervals"]


def refusals(samples: Sequence[data.Sample], inspections: Sequence[video.Inspection]) -> dict[str, list[str]]:
    """The videos that a server with its default limits would refuse, each with what is wrong, by the limit's name."""
    found = defaultdict(list)
    for sample, inspection in zip(samples, inspections, strict=True):
        if inspection.finding is not None and inspection.finding.refusal:
            wrong, _, expected = inspection.finding.refusal.partition(": expected ")
            limit = expected.rpartition("(")[2].rstrip(")") or "other"
            found[limit].append(f"{sample.name} ({wrong})")
    return found


def describe_refusals(refusals: Mapping[str, Sequence[str]], *, shown: int) -> list[str]:
    """Says how many videos a server would refuse, if any, and for each limit which.

    Args:
        refusals: see the function of that name.
        shown: how many are named for one limit.
    """
    total = sum(map(len, refusals.values()))
    lines = [f"{limit}, {len(named)}: {data.few(named, shown=shown)}" for limit, named in refusals.items()]
    return [f"a server with its default limits would refuse {total} of the videos:", *lines] if lines else []


def describe_replaced(samples: Sequence[data.Sample], inspections: Sequence[video.Inspection]) -> list[str]:
    """Says which videos were replaced by others of the same size and modification time, if any."""
    names = [sample.name for sample, inspection in zip(samples, inspections, strict=True) if inspection.replaced]
    if not names:
        return []
    count = f"{len(names)} of {len(samples)} videos"
    return [f"{count} have other contents than before, with the same size and time: {data.few(names)}"]


def check_classes(name: str, samples: Sequence[data.Sample], usable: Sequence[data.Sample]) -> None:
    """Refuses data of which no video of some class can be used.

    Raises:
        UserError: names the class.
    """
    lost = {sample.label for sample in samples} - {sample.label for sample in usable}
    if lost:
        raise UserError(f"data={name}: no video of class '{min(lost)}' can be used: expected at least one")


def _print_faults(faults: Sequence[Fault]) -> None:
    for fault in faults[:SHOWN_FAULTS]:
        logger.info(f"{fault['path']}: {fault['fault']}")
    if len(faults) > SHOWN_FAULTS:
        logger.info(f"... and {len(faults) - SHOWN_FAULTS} more")


def _print_dataset(dataset: data.VideoDataset, recipe: Recipe) -> None:
    sizes = ", ".join(f"{len(samples)} {split}" for split, samples in dataset.splits.items())
    drawn = f" ({' and '.join(dataset.drawn)} drawn from train, seed {dataset.seed})" if dataset.drawn else ""
    logger.info(f"Data: {recipe.data}, {len(dataset.labels)} classes, {sizes}{drawn}")
    doubles = dataset.doubles()
    if doubles:
        logger.info(f"Note: {len(doubles)} contents lie there more than once: {data.few(doubles)}")
    for note in [*dataset.remarks(), *describe_test_groups(dataset)]:
        logger.info(f"Note: {note}")


def print_listing(listing: data.Listing) -> None:
    """What is not used, and how things were understood: the short form of what `check` prints."""
    for line in listing.describe_left_out():
        logger.info(f"Left out: {line}")
    for note in listing.notes:
        logger.info(f"Note: {note}")


def _print_seen(dataset: data.VideoDataset, before: data.SeenVideos | None) -> None:
    """Says where the sets hold what the model before them has learnt from, or may have."""
    if before is None:
        return
    if before.unknown:
        logger.info(f"Note: what {', '.join(before.unknown)} was trained on is not known: perhaps on these videos")
    for split in data.SPLITS[1:]:
        counts = before.count(dataset.splits[split])
        if known := counts["train"] + (counts["val"] if split == "test" else 0):
            logger.info(
                f"Note: {known} of the {split} videos were trained or validated on before: the {split} figures are not "
                f"those of a test"
            )
        elif groups := before.groups_trained_on(dataset.splits[split]):
            logger.info(f"Note: the model before was trained on groups of these names in {split}: {data.few(groups)}")


def log_faults(log: tracking.RunLog, faults: list[Fault]) -> None:
    """Logs the videos that cannot be used, before they are listed."""
    log.table(faults, "bad_videos.csv")
    logger.info("Videos that cannot be used, all in the run's artifact bad_videos.csv:")


def log_unused(log: tracking.RunLog, listing: data.Listing) -> None:
    """Logs by name, with the reasons, what the data holds and is not used, if there is anything."""
    rows = [{"name": name, "reason": reason} for reason, names in listing.left_out.items() for name in names]
    if rows:
        log.table(rows, "unused.csv")


def log_left_out(log: tracking.RunLog, left_out: Mapping[str, str]) -> None:
    """Logs the videos that went bad after the check, by name, with what is wrong with them, if there are any."""
    if left_out:
        log.table([{"path": name, "fault": fault} for name, fault in left_out.items()], "left_out_videos.csv")


def log_preparation(log: tracking.RunLog, prepared: Preparation, recipe: Recipe, *, forms: Mapping[str, str]) -> None:
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
            **forms,
        }
    )
    log.dataset(prepared.dataset, data=recipe.data)
