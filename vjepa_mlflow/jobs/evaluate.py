"""How good a logged model is on labelled videos, also on others than it was tested on when it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vjepa_mlflow import data, evaluation, features, flavor, model, tracking
from vjepa_mlflow.cpus import thread_count
from vjepa_mlflow.errors import UserError, one_line, printable
from vjepa_mlflow.interrupts import orderly_interrupts
from vjepa_mlflow.jobs.assess import LabelledSet, assess, notes_folder
from vjepa_mlflow.jobs.prepare import URI_SCHEMES, check_videos, log_faults, log_left_out
from vjepa_mlflow.jobs.threads import threads_of_run
from vjepa_mlflow.recipe import EVALUATED, EVALUATED_SPLITS, Recipe


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation came to.

    Attributes:
        run_id: the MLflow run, with the report and all tables.
        evaluation: everything that is said of the model.
    """

    run_id: str
    evaluation: evaluation.Evaluation


def evaluate(model_uri: str, recipe: Recipe, *, split: str = "test", num_clips: int = 1) -> EvaluationResult:
    """Evaluates a logged or registered model on labelled videos, and logs what there is to say to an MLflow run.

    The metrics are attached to the logged model too; a registered version gets them as tags.

    Args:
        model_uri: any MLflow model URI, such as `models:/name/1`.
        recipe: the fields named in `recipe.EVALUATED` are used.
        split: which of the data's videos, or all. A split that the data does not give is drawn as training draws it.
        num_clips: clips of a video whose probabilities are averaged.

    Raises:
        UserError: there is no such model, or something in the data is not as expected.
    """
    if split not in EVALUATED_SPLITS:
        raise UserError(f"split={split}: expected one of {', '.join(EVALUATED_SPLITS)}")
    flavor.check_num_clips(num_clips)
    samples = data.read_samples(recipe.data)
    device = model.use_device(recipe.device)
    loaded = _load(model_uri)
    with (
        orderly_interrupts(),
        tracking.run_log() as log,
        threads_of_run(log, thread_count()),
        model.matmul_precision(recipe.precision),
    ):
        used = {name: getattr(recipe, name) for name in EVALUATED}
        log.params({"model_uri": model_uri, "split": split, "num_clips": num_clips, **used})
        classifier = loaded.model.to(device)
        print(f"Model: {model_uri} on {model.describe_device(device)}")
        recipe = replace(recipe, stride=loaded.stride)
        videos = LabelledSet(
            data=recipe.data,
            split=split,
            samples=_choose_videos(log, recipe, samples, split, num_frames=classifier.config.frames_per_clip),
            labels=model.label_names(classifier.config),
            num_clips=num_clips,
            num_frames=classifier.config.frames_per_clip,
            stride=loaded.stride,
            notes=notes_folder(recipe.cache),
        )
        _check_labels(videos)
        print(printable(f"Data: {recipe.data}, {split}, {len(videos.samples)} videos"), flush=True)
        log.input(videos.dataset, context=split)

        source = features.FeatureSource(classifier, loaded.processor, recipe)
        videos, outcomes = videos.predict(model.Head(classifier), source, precision=recipe.precision)
        log_left_out(log, source.left_out)
        facts = {
            "Model": model_uri,
            "Data": f"{recipe.data}, {split}",
            "Clips of a video": str(num_clips),
            "MLflow run": log.run_id,
        }
        title = f"{model_uri} on {recipe.data}"
        model_id = loaded.model_id if model_uri.startswith(URI_SCHEMES) else None  # a copied folder's may be nobody's
        found = assess(log, videos, outcomes, title=title, facts=facts, step=0, model_id=model_id)
        version = tracking.registered_version(model_uri)
        if version is not None:
            tags = tracking.evaluation_tags(
                found.metrics_of(split), split=split, num_clips=num_clips, dataset=videos.dataset, run_id=log.run_id
            )
            tracking.tag_version(*version, tags)
        source.finish()
        return EvaluationResult(log.run_id, found)


def _load(model_uri: str) -> flavor.LoadedModel:
    from mlflow.exceptions import MlflowException

    try:
        return flavor.load_model(model_uri)
    except (MlflowException, OSError) as error:
        raise UserError(f"{model_uri}: {one_line(error)}: expected a model that this project logged") from error


def _choose_videos(
    log: tracking.RunLog, recipe: Recipe, samples: Sequence[data.Sample], split: str, *, num_frames: int
) -> list[data.Sample]:
    """The videos of the split, checked; drawn from all where the data does not give it."""
    given = [sample for sample in samples if split in ("all", sample.split)]
    usable = check_videos(
        given or samples,
        recipe,
        num_frames=num_frames,
        on_faults=lambda faults: log_faults(log, faults),
    )
    if not usable:
        raise UserError(f"data={recipe.data}: no video can be used: expected at least one")
    if given:
        return usable
    print(f"The {split} split is drawn as in training, seed {recipe.seed}; split=all takes all videos")
    return data.make_dataset(recipe.data, usable, seed=recipe.seed).splits[split]


def _check_labels(videos: LabelledSet) -> None:
    for sample in videos.samples:
        if sample.label not in videos.labels:
            raise UserError(
                f"data={videos.data}: class '{sample.label}' ({sample.name}) is none of the model's: "
                f"expected some of {', '.join(videos.labels)}"
            )
