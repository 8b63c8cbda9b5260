"""An alias of a registered model, such as champion, given to another version."""

from dataclasses import dataclass

from vjepa_mlflow import tracking
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.temporary import own_temporaries
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.metrics import is_better
from vjepa_mlflow.runtime.ranks import check_alone

logger = get_logger(__name__)


@dataclass(frozen=True)
class Promotion:
    """What became of an alias.

    Attributes:
        name: of the registered model.
        alias: of one of its versions.
        version: that was to get it.
        holder: the version that had it; None if none had.
        moved: whether the version has it now, and had not before.
        figures: of the holder and of the version, if they were compared.
        evaluated_on: what they are of.
    """

    name: str
    alias: str
    version: str
    holder: str | None
    moved: bool
    figures: tuple[float, float] | None = None
    evaluated_on: str = ""


@own_temporaries()
def promote(model_uri: str, alias: str, *, if_better: str = "") -> Promotion:
    """Gives a registered version an alias.

    Args:
        model_uri: of the version, such as `models:/name/2`.
        alias: to give.
        if_better: a metric such as `test_accuracy`: the alias moves only if it is better than the holder's on the same
            videos. Empty: it moves.

    Raises:
        UserError: there is no such version, the alias is not allowed, or the two were not evaluated alike.
    """
    check_alone("promote")
    from mlflow.exceptions import MlflowException

    tracking.wake_tracking()
    try:
        registered = tracking.registered_version(model_uri)
        if registered is None:
            raise UserError(f"{model_uri}: expected a registered version, such as models:/name/2")
        name, version = registered
        holder = tracking.alias_holder(name, alias)
        if holder == version:
            return Promotion(name, alias, version, holder, moved=False)
        if holder is None or not if_better:
            tracking.move_alias(name, alias, version)
            return Promotion(name, alias, version, holder, moved=True)
        figures, evaluated_on = _compare(name, holder, version, metric=if_better)
        before, after = figures
        better = is_better(after, before, name=if_better)
        if better:
            tracking.move_alias(name, alias, version)
        return Promotion(name, alias, version, holder, moved=better, figures=figures, evaluated_on=evaluated_on)
    except MlflowException as error:
        raise UserError(f"{model_uri}, alias {alias}: {one_line(error)}") from error


def _compare(name: str, holder: str, version: str, *, metric: str) -> tuple[tuple[float, float], str]:
    """The metric of both versions, and what they were evaluated on."""
    split, _, _ = metric.partition("_")
    compared = []
    for one in (holder, version):
        tags = tracking.version_tags(name, one)
        if metric not in _figures(tags):
            raise UserError(
                f"if_better={metric}: version {one} of {name} has no such figure: expected one of "
                f"{', '.join(_figures(tags)) or 'none yet'}; vjepa-mlflow evaluate models:/{name}/{one} makes them"
            )
        compared.append((float(tags[metric]), tags[tracking.evaluated_on_tag(split)]))
        seen = tags.get(tracking.seen_tag(split))
        if seen is None:
            raise UserError(
                f"if_better={metric}: version {one} of {name} was evaluated by an older version of this package, which "
                f"did not ask what it was trained on: expected figures of vjepa-mlflow evaluate models:/{name}/{one}"
            )
        if seen == "unknown":
            logger.warning(f"Version {one} of {name} does not say what it was trained on: perhaps on these very videos")
        elif seen != "0":
            raise UserError(
                f"if_better={metric}: version {one} of {name} was evaluated on {seen} videos of its own training: "
                f"expected none; {_commands(name, holder, version, split)} evaluate both on what neither has seen"
            )
    (of_holder, videos), (of_version, other_videos) = compared
    if videos != other_videos:
        raise UserError(
            f"if_better={metric}: version {holder} of {name} was evaluated on {videos}, and version {version} on "
            f"{other_videos}: expected the same; {_commands(name, holder, version, split)} evaluate both on what "
            f"neither has seen"
        )
    return (of_holder, of_version), videos


def _commands(name: str, holder: str, version: str, split: str) -> str:
    """What evaluates both versions on the same videos, which neither was trained or validated on."""
    pairs = ((holder, version), (version, holder))
    return " and ".join(
        f"vjepa-mlflow evaluate models:/{name}/{one} --split {split} --unseen-by models:/{name}/{other} --data DATA"
        for one, other in pairs
    )


def _figures(tags: dict[str, str]) -> list[str]:
    """The names of a version's figures, of which it is said what videos they are of."""
    return sorted(
        tag
        for tag in tags
        if tracking.evaluated_on_tag(tag.partition("_")[0]) in tags
        and not tag.endswith(tracking.SEEN)
        and _is_number(tags[tag])
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
