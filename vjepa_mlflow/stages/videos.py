"""The videos of a listing, opened: which of them can be used, and what there is to know of them before work begins."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vjepa_mlflow import data, features, tracking, video
from vjepa_mlflow.bad_videos import BadVideos
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.ranks import Share

if TYPE_CHECKING:
    import torch

logger = get_logger(__name__)

SHOWN_FAULTS = 20
APART = 1.25
"""How many times as fast one frame rate is as another for the same stride to mean different times: 24 and 30."""

SHOWN_REFUSED = 3
"""Of videos that a server would refuse for one limit."""

Fault = dict[str, str]
"""A video that cannot be used: `path`, and `fault`, what is wrong with it."""


@dataclass(frozen=True)
class VideoCheck:
    """What was found of some videos.

    Attributes:
        usable: those that can be decoded, with their digests.
        faults: of the others.
        findings: of those that can be decoded.
        refused: of those, the ones that a server with its default limits would refuse, each with what is wrong, by the
            limit's name.
        replaced: the ones whose content is another one than before, with the same size and time.
    """

    usable: list[data.Sample]
    faults: list[Fault]
    findings: list[video.Finding]
    refused: Mapping[str, Sequence[str]]
    replaced: Sequence[str]

    @classmethod
    def of(cls, samples: Sequence[data.Sample], inspections: Sequence[video.Inspection]) -> VideoCheck:
        usable, findings = [], []
        faults: list[Fault] = []
        refused = defaultdict(list)
        for sample, inspection in zip(samples, inspections, strict=True):
            finding = inspection.finding
            if finding is None:
                faults.append({"path": sample.name, "fault": inspection.fault})
                continue
            findings.append(finding)
            version = inspection.version
            usable.append(replace(sample, digest=finding.digest, seconds=finding.seconds, version=version))
            if finding.refusal:
                wrong, _, expected = finding.refusal.partition(": expected ")
                refused[expected.rpartition("(")[2].rstrip(")") or "other"].append(f"{sample.name} ({wrong})")
        replaced = [sample.name for sample, one in zip(samples, inspections, strict=True) if one.replaced]
        return cls(usable, faults, findings, refused, replaced)

    def describe_rates(self, recipe: Recipe) -> list[str]:
        """Whether the recipe's stride means different times in different videos."""
        rates = sorted(one.frames_per_second for one in self.findings)
        if not rates or recipe.frames_per_second:
            return []
        stride, median = recipe.stride, statistics.median_low(rates)
        others = sum(max(rate, median) >= APART * min(rate, median) for rate in rates)
        if not others:
            return []
        return [
            f"stride={stride} is {stride / rates[-1]:.3g} s from frame to frame at {rates[-1]:.4g} frames a second and "
            f"{stride / rates[0]:.3g} s at {rates[0]:.4g}; {others} of {len(rates)} videos are a quarter or more off "
            f"the median rate, {median:.4g}; frames_per_second={median / stride:.4g} means the same time in all"
        ]

    def describe_refusals(self, *, shown: int) -> list[str]:
        """How many videos a server would refuse, if any, and for each limit which.

        Args:
            shown: how many are named for one limit.
        """
        total = sum(map(len, self.refused.values()))
        lines = [f"{limit}, {len(names)}: {data.few(names, shown=shown)}" for limit, names in self.refused.items()]
        return [f"a server with its default limits would refuse {total} of the videos:", *lines] if lines else []

    def describe_replaced(self) -> list[str]:
        """Which videos were replaced by others of the same size and modification time, if any."""
        if not self.replaced:
            return []
        count = f"{len(self.replaced)} of {len(self.usable) + len(self.faults)} videos"
        return [f"{count} have other contents than before, with the same size and time: {data.few(self.replaced)}"]


def check_videos(
    samples: Sequence[data.Sample],
    recipe: Recipe,
    *,
    num_frames: int,
    device: torch.device,
    log: tracking.RunLog | None = None,
    share: Share | None = None,
    measured: str = "test",
) -> list[data.Sample]:
    """Returns the samples that can be decoded, with their digests; lists the others, and stops if so told.

    Args:
        samples: the videos.
        recipe: `data`, `stride`, `frames_per_second`, `bad_videos` and `cache` are used.
        num_frames: frames of a clip.
        device: a GPU's decoder reads, too.
        log: of the run that lists the videos that cannot be used, if there is one.
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
    check = VideoCheck.of(samples, inspections)
    _tell_notes(check.describe_rates(recipe))
    _tell_notes(check.describe_refusals(shown=SHOWN_REFUSED))
    _tell_notes(check.describe_replaced())
    if check.faults:
        if log is not None:
            log.table(check.faults, "bad_videos.csv")
            logger.info("Videos that cannot be used, all in the run's artifact bad_videos.csv:")
        _tell_faults(check.faults)
        count = f"{len(check.faults)} of {len(samples)} videos"
        policy = BadVideos(recipe.bad_videos)
        logger.info(policy.before_training(recipe.data, count=count, first=check.faults[0]["path"]))
    return check.usable


def _tell_notes(notes: Sequence[str]) -> None:
    """The first line is the head of the others."""
    for head in notes[:1]:
        logger.info(f"Note: {head}")
    for line in notes[1:]:
        logger.info(f"  {line}")


def _tell_faults(faults: Sequence[Fault]) -> None:
    for fault in faults[:SHOWN_FAULTS]:
        logger.info(f"{fault['path']}: {fault['fault']}")
    if len(faults) > SHOWN_FAULTS:
        logger.info(f"... and {len(faults) - SHOWN_FAULTS} more")


def check_classes(name: str, samples: Collection[data.Sample], usable: Collection[data.Sample]) -> None:
    """Refuses data of which no video of some class can be used.

    Raises:
        UserError: names the class.
    """
    lost = {sample.label for sample in samples} - {sample.label for sample in usable}
    if lost:
        raise UserError(f"data={name}: no video of class '{min(lost)}' can be used: expected at least one")


def tell_listing(listing: data.Listing) -> None:
    """Tells what is not used, and how things were understood: the short form of what `check` prints."""
    for line in listing.describe_left_out():
        logger.info(f"Left out: {line}")
    for note in listing.notes:
        logger.info(f"Note: {note}")


def log_unused(log: tracking.RunLog, listing: data.Listing) -> None:
    """Logs by name, with the reasons, what the data holds and is not used, if there is anything."""
    rows = [{"name": name, "reason": reason} for reason, names in listing.left_out.items() for name in names]
    if rows:
        log.table(rows, "unused.csv")
