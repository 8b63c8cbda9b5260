"""How good a logged model is on labelled videos, also on others than it was tested on when it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vjepa_mlflow import data, evaluation, features, flavor, model, tracking
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import EVALUATED, EVALUATED_SPLITS, Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.ranks import check_alone
from vjepa_mlflow.stages.assess import LabelledSet, assess
from vjepa_mlflow.stages.at_work import at_work
from vjepa_mlflow.stages.prepare import check_videos, log_faults, log_left_out, log_unused, print_listing
from vjepa_mlflow.stages.seen import Memory, describe_seen, seen_by
from vjepa_mlflow.stages.threads import threads_of_run

logger = get_logger(__name__)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation came to.

    Attributes:
        run_id: the MLflow run, with the report and all tables.
        evaluation: everything that is said of the model.
    """

    run_id: str
    evaluation: evaluation.Evaluation = field(repr=False)  # of many pages


@at_work("evaluate")
def evaluate(
    model_uri: str, recipe: Recipe, *, split: str = "test", num_clips: int = 1, unseen_by: str = ""
) -> EvaluationResult:
    """Evaluates a logged or registered model on labelled videos, and logs what there is to say to an MLflow run.

    The metrics are attached to the logged model too; a registered version gets them as tags, unless they are over
    videos that it was trained or validated on.

    Args:
        model_uri: any MLflow model URI, such as `models:/name/1`.
        recipe: the fields named in `recipe.EVALUATED` are used.
        split: which of the data's videos, or all. Of a split that the data does not give, the videos are those that
            the model knows in it, and a share of those that it does not know, drawn as training draws.
        num_clips: clips of a video whose probabilities are averaged.
        unseen_by: another model, to be compared with: videos that one of the two was trained or validated on are left
            out, so that both are evaluated on the same ones. Empty for none.

    Raises:
        UserError: there is no such model, or something in the data is not as expected.
    """
    check_alone("evaluate")
    if split not in EVALUATED_SPLITS:
        raise UserError(f"split={split}: expected one of {', '.join(EVALUATED_SPLITS)}")
    flavor.check_num_clips(num_clips)
    listing = data.read_data(recipe.data)
    data.leave_out_small(listing, recipe.min_videos)
    device = model.use_device(recipe.device)
    fetched = flavor.fetch_model(model_uri)
    preprocessing, classifier = fetched.preprocessing(), flavor.load_fetched(fetched)
    labels = model.label_names(classifier.config)
    _check_labels(recipe.data, _candidates(listing.samples, split), labels)
    memory = _memory(model_uri, fetched, unseen_by)
    values = {
        "model_uri": model_uri,
        "split": split,
        "num_clips": num_clips,
        **({"unseen_by": unseen_by} if unseen_by else {}),
        **{name: getattr(recipe, name) for name in EVALUATED},
    }
    with (
        evaluation.painting() as painter,
        tracking.run_log(tracking.Job.of("evaluate", values, values)) as log,
        threads_of_run(log, thread_count(model.ClipShape.of(classifier.config).values)),
        model.matmul_precision(recipe.precision),
    ):
        log.params(values)
        classifier = classifier.to(device)
        logger.info(f"Model: {model_uri} on {model.describe_device(device)}")
        print_listing(listing)
        log_unused(log, listing)
        recipe = replace(recipe, stride=fetched.stride, frames_per_second=fetched.frames_per_second)
        chosen = _choose_videos(
            log,
            recipe,
            listing.samples,
            split,
            memory,
            num_frames=classifier.config.frames_per_clip,
            device=device,
        )
        videos = LabelledSet(
            data=recipe.data,
            split=split,
            samples=chosen,
            labels=labels,
            num_clips=num_clips,
            sampling=recipe.sampling(classifier.config.frames_per_clip),
            cache=recipe.cache,
        )
        logger.info(f"Data: {recipe.data}, {split}, {len(videos.samples)} videos")
        log.params({"seen_videos": memory.describe(chosen)})
        logger.info(memory.sentence(split, chosen))
        log.input(videos.dataset, context=split)

        backbone = model.LoadedBackbone(classifier, preprocessing, cache_dir=model.model_cache_dir(recipe.cache))
        form = features.choose_form(backbone, recipe, features.evaluation_clips(videos.samples, num_clips=num_clips))
        source = features.FeatureSource(backbone, recipe, form=form)
        videos, predictions = videos.predict(model.Head.of(classifier), source, precision=recipe.precision)
        log_left_out(log, source.left_out)
        facts = {
            "Model": model_uri,
            "Data": f"{recipe.data}, {split}",
            "Seen before": memory.describe(chosen),
            "Clips of a video": str(num_clips),
            "MLflow run": log.run_id,
        }
        title = f"{model_uri} on {recipe.data}"
        # That of a copied folder may be nobody's.
        model_id = fetched.model_id if model_uri.startswith(flavor.URI_SCHEMES) else None
        assessment = assess(log, painter, videos, predictions, title=title, facts=facts, step=0, model_id=model_id)
        found = assessment.found
        for line in ["", *found.summary().splitlines()]:
            logger.info(line)
        version = tracking.registered_version(model_uri)
        seen = describe_seen(memory.own, chosen)
        if version is not None and seen not in ("0", "unknown"):
            logger.info(
                f"Version {version[1]} of {version[0]} keeps the figures that it has as tags: these are not a test's"
            )
        elif version is not None:
            tags = tracking.evaluation_tags(
                found.metrics_of(split),
                split=split,
                num_clips=num_clips,
                dataset=videos.dataset,
                seen=seen,
                run_id=log.run_id,
            )
            tracking.tag_version(*version, tags)
        source.finish()
        assessment.log_report(log)
        return EvaluationResult(log.run_id, found)


def _memory(model_uri: str, fetched: flavor.FetchedModel, other: str) -> Memory:
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


def _candidates(samples: Sequence[data.Sample], split: str) -> Sequence[data.Sample]:
    """The videos that are given as the split's, or all that it may be drawn from."""
    return [sample for sample in samples if split in ("all", sample.split)] or samples


def _choose_videos(
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
    candidates = _candidates(samples, split)
    usable = check_videos(
        candidates,
        recipe,
        num_frames=num_frames,
        on_faults=lambda faults: log_faults(log, faults),
        device=device,
        measured=split,
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


def _check_labels(name: str, samples: Sequence[data.Sample], labels: Sequence[str]) -> None:
    """Refuses classes that the model does not have, before any video is opened: all of them at once."""
    foreign = {sample.label: sample.name for sample in samples if sample.label not in labels}
    if foreign:
        shown = data.few([f"'{label}' ({foreign[label]})" for label in sorted(foreign)], shown=len(foreign))
        raise UserError(
            f"data={name}: {len(foreign)} of its classes {'is' if len(foreign) == 1 else 'are'} none of the model's: "
            f"{shown}: expected some of {data.few(labels, shown=20)}"
        )
