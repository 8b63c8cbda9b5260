"""Which videos a model is evaluated on that was trained before: those of a split that it does not know, if need be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vjepa_mlflow import data, flavor, tracking
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.stages.seen import Memory, seen_by
from vjepa_mlflow.stages.videos import check_videos

if TYPE_CHECKING:
    import torch

logger = get_logger(__name__)


def memory_of(model_uri: str, fetched: flavor.FetchedModel, other: str) -> Memory:
    """What the model has seen, and what the one has that it is to be compared with, if there is one."""
    own = seen_by(model_uri, fetched)
    if not other:
        return Memory(own)
    others = seen_by(other, flavor.fetch_model(other))
    if own.unknown or others.unknown:
        raise UserError(
            f"unseen_by={other}: what {data.few([*own.unknown, *others.unknown])} was trained on is not known: "
            f"expected two models that say so"
        )
    return Memory(own, others)


def candidates(samples: Sequence[data.Sample], split: str) -> Sequence[data.Sample]:
    """The videos that are given as the split's, or all that it may be drawn from."""
    return [sample for sample in samples if split in ("all", sample.split)] or samples


def choose_videos(
    log: tracking.RunLog,
    recipe: Recipe,
    samples: Sequence[data.Sample],
    split: str,
    memory: Memory,
    *,
    num_frames: int,
    device: torch.device,
) -> list[data.Sample]:
    """The videos of the split, checked; where the data does not give it, those that the models know in it, and some."""
    usable = check_videos(
        candidates(samples, split), recipe, num_frames=num_frames, device=device, log=log, measured=split
    )
    if not usable:
        raise UserError(f"data={recipe.data}: no video can be used: expected at least one")
    data.check_content(recipe.data, usable)
    if split != "all" and not any(sample.split == split for sample in usable):
        usable = _draw(recipe, usable, split, memory)
    chosen = memory.unseen(usable) if memory.other else usable
    if memory.other:
        count = f"{len(usable) - len(chosen)} of {len(usable)}"
        logger.info(f"Left out: {count} videos that one of the two models was trained or validated on")
    if not chosen:
        raise UserError(
            f"data={recipe.data}: of {len(usable)} videos none is left to evaluate on as {split}: expected some that "
            f"were not trained or validated on; split=all takes all"
        )
    return chosen


def _draw(recipe: Recipe, samples: Sequence[data.Sample], split: str, memory: Memory) -> list[data.Sample]:
    """The videos that the models know in the split, and of those that none of them knows some."""
    given = {sample.split for sample in samples}
    missing = [name for name in data.SPLITS[1:] if name not in given]
    pool = [sample for sample in samples if sample.split in (None, "train")]
    drawn = data.draw_missing(recipe.data, pool, missing, seed=recipe.seed, role=memory.role)
    chosen = [sample for sample in drawn if sample.split == split]
    known = sum(memory.role(sample.digest) == split for sample in chosen)
    new = sum(memory.role(sample.digest) is None for sample in chosen)
    new_in_all = sum(memory.role(sample.digest) is None for sample in pool)
    logger.info(
        f"The {split} split: {known} videos that {memory.owner} in it, and {new} drawn of {new_in_all} new "
        f"ones, seed {recipe.seed}; split=all takes all videos"
    )
    return chosen


def check_labels(name: str, samples: Sequence[data.Sample], labels: Sequence[str]) -> None:
    """Refuses classes that the model does not have, before any video is opened: all of them at once."""
    foreign = {sample.label: sample.name for sample in samples if sample.label not in labels}
    if foreign:
        shown = data.few([f"'{label}' ({foreign[label]})" for label in sorted(foreign)], shown=len(foreign))
        raise UserError(
            f"data={name}: {len(foreign)} of its classes {'is' if len(foreign) == 1 else 'are'} none of the model's: "
            f"{shown}: expected some of {data.few(labels, shown=20)}"
        )
