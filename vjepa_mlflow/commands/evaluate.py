"""How good a logged model is on labelled videos, also on others than it was tested on when it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from vjepa_mlflow import data, evaluation, features, flavor, model, tracking
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import EVALUATED, EVALUATED_SPLITS, Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.ranks import check_alone
from vjepa_mlflow.stages.assess import Assessment, assess
from vjepa_mlflow.stages.at_work import at_work
from vjepa_mlflow.stages.evaluation_set import candidates, check_labels, choose_videos, memory_of
from vjepa_mlflow.stages.labelled_set import LabelledSet
from vjepa_mlflow.stages.seen import Memory, describe_seen
from vjepa_mlflow.stages.test import TestedModel, log_left_out
from vjepa_mlflow.stages.threads import threads_of_run
from vjepa_mlflow.stages.videos import log_unused, tell_listing

logger = get_logger(__name__)

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification


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
    opened = _open(model_uri)
    check_labels(recipe.data, candidates(listing.samples, split), opened.labels)
    memory = memory_of(model_uri, opened.fetched, unseen_by)
    values = {
        "model_uri": model_uri,
        "split": split,
        "num_clips": num_clips,
        **({"unseen_by": unseen_by} if unseen_by else {}),
        **{name: getattr(recipe, name) for name in EVALUATED},
    }
    recipe = replace(recipe, stride=opened.fetched.stride, frames_per_second=opened.fetched.frames_per_second)
    with (
        evaluation.painting() as painter,
        tracking.run_log(tracking.Job.of("evaluate", values, values)) as log,
        threads_of_run(log, thread_count(model.ClipShape.of(opened.classifier.config).values)),
        model.matmul_precision(recipe.precision),
    ):
        log.params(values)
        opened.classifier.to(device)
        logger.info(f"Model: {model_uri} on {model.describe_device(device)}")
        tell_listing(listing)
        log_unused(log, listing)
        samples = choose_videos(
            log,
            recipe,
            listing.samples,
            split,
            memory,
            num_frames=opened.num_frames,
            device=device,
        )
        videos = LabelledSet(
            data=recipe.data,
            split=split,
            samples=samples,
            labels=opened.labels,
            num_clips=num_clips,
            sampling=recipe.sampling(opened.num_frames),
            cache=recipe.cache,
        )
        logger.info(f"Data: {recipe.data}, {split}, {len(videos.samples)} videos")
        log.input(videos.dataset, context=split)
        with _encoding(opened, recipe, videos) as source:
            tested = _test(log, opened, memory, recipe, videos, source)
            assessment = assess(log, painter, tested)
            for line in ["", *assessment.result.summary().splitlines()]:
                logger.info(line)
            _tag_version(assessment, log.run_id, model_uri)
        assessment.log_report(log)
        return EvaluationResult(log.run_id, assessment.result)


class _OpenedModel(NamedTuple):
    """The model that is evaluated."""

    uri: str
    fetched: flavor.FetchedModel
    preprocessing: model.Preprocessing
    classifier: VJEPA2ForVideoClassification

    @property
    def labels(self) -> list[str]:
        return model.label_names(self.classifier.config)

    @property
    def num_frames(self) -> int:
        return int(self.classifier.config.frames_per_clip)


def _open(model_uri: str) -> _OpenedModel:
    fetched = flavor.fetch_model(model_uri)
    preprocessing, classifier = fetched.preprocessing(), flavor.load_fetched(fetched)
    return _OpenedModel(model_uri, fetched, preprocessing, classifier)


@contextmanager
def _encoding(opened: _OpenedModel, recipe: Recipe, videos: LabelledSet) -> Iterator[features.FeatureSource]:
    """The features of the set's clips, encoded when they are read."""
    cache_dir = model.model_cache_dir(recipe.cache)
    backbone = model.LoadedBackbone(opened.classifier, opened.preprocessing, cache_dir=cache_dir)
    clips = features.evaluation_clips(videos.samples, num_clips=videos.num_clips)
    form = features.choose_form(backbone, recipe, clips)
    with features.FeatureSource(backbone, recipe, form=form) as source:
        yield source


def _test(
    log: tracking.RunLog,
    opened: _OpenedModel,
    memory: Memory,
    recipe: Recipe,
    videos: LabelledSet,
    source: features.FeatureSource,
) -> TestedModel:
    """What the model says of the videos, after it was told what they are to it."""
    described = memory.describe(videos.samples)
    log.params({"seen_videos": described})
    logger.info(memory.sentence(videos.split, videos.samples))
    seen = describe_seen(memory.own, videos.samples)
    head = model.Head.of(opened.classifier)
    readable, predictions = videos.predict(head, source, precision=recipe.precision)
    log_left_out(log, source.left_out)
    facts = {
        "Model": opened.uri,
        "Data": f"{recipe.data}, {videos.split}",
        "Seen before": described,
        "Clips of a video": str(videos.num_clips),
        "MLflow run": log.run_id,
    }
    # That of a copied folder may be nobody's.
    model_id = opened.fetched.model_id if opened.uri.startswith(flavor.URI_SCHEMES) else None
    title = f"{opened.uri} on {recipe.data}"
    return TestedModel(readable, predictions, title, facts, seen, step=0, model_id=model_id)


def _tag_version(assessment: Assessment, run_id: str, model_uri: str) -> None:
    """Gives a registered version the figures, unless it has learnt from the videos that they are of."""
    version = tracking.registered_version(model_uri)
    if version is None:
        return
    name, number = version
    tested = assessment.tested
    if tested.seen not in ("0", "unknown"):
        logger.info(f"Version {number} of {name} keeps the figures that it has as tags: these are not a test's")
        return
    tags = tracking.evaluation_tags(
        assessment.metrics,
        split=tested.videos.split,
        num_clips=tested.videos.num_clips,
        dataset=tested.videos.dataset,
        seen=tested.seen,
        run_id=run_id,
    )
    tracking.tag_version(name, number, tags)
