"""In which form a run's clips are encoded: the one that the store has them in, or else the one that takes less time."""

from collections.abc import Iterable

from vjepa_mlflow.features.assembly import Clip
from vjepa_mlflow.features.contents import entry_path, store_folder
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.files.paths import is_there
from vjepa_mlflow.model import FrozenBackbone, form_for
from vjepa_mlflow.recipe import Recipe

COMPILING_PAYS = {"fp32": 500, "tf32": 1200, "bf16": 4000}
"""Clips for which compiling the encoder takes as long as it saves: some 8 s on an H100, where a clip of the ViT-L takes
25.8 ms compiled and 41.8 as it is in fp32, 14.2 and 21.4 in tf32, 3.7 and 5.6 in bf16."""


def feature_space(backbone: FrozenBackbone, recipe: Recipe, form: str) -> FeatureSpace:
    """What the features of a recipe's clips depend on, in a form of the backbone."""
    sampling = recipe.sampling(backbone.architecture.frames_per_clip)
    return FeatureSpace(
        backbone=backbone.known.backbone,
        processor=backbone.known.processor,
        num_frames=sampling.num_frames,
        stride=sampling.stride,
        frames_per_second=sampling.frames_per_second,
        precision=recipe.precision,
        form=form,
    )


def choose_form(backbone: FrozenBackbone, recipe: Recipe, clips: Iterable[Clip], *, resumed: str | None = None) -> str:
    """The form in which a run's clips are encoded, see `FrozenBackbone.forms`.

    A clip's features differ in their last bits from form to form. So nothing is encoded again because a run is shorter
    or longer than an earlier one.

    Args:
        backbone: what encodes.
        recipe: of the run.
        clips: that it reads.
        resumed: the form in which the run began, where it goes on.
    """
    forms = backbone.forms(recipe.precision)
    if resumed in forms:
        return resumed
    if len(forms) == 1:
        return forms[0]
    places = {form: _Place(feature_space(backbone, recipe, form)) for form in forms}
    count, stored = 0, dict.fromkeys(forms, 0)
    for clip in clips:
        count += 1
        for form, place in places.items():
            stored[form] += recipe.cache == "disk" and place.has(clip)
    if any(stored.values()):
        return max(forms, key=lambda form: stored[form])
    return form_for(forms, count, compiling_pays=COMPILING_PAYS[recipe.precision])


class _Place:
    """Where the features of a space are stored, if any are."""

    def __init__(self, space: FeatureSpace):
        self._space = space
        self._folder = store_folder() / space.name
        self._is_there = self._folder.is_dir()

    def has(self, clip: Clip) -> bool:
        return self._is_there and is_there(entry_path(self._folder, self._space.entry(clip)))
