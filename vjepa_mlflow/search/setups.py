"""What trials work with: checked data, features and a head, made once for all trials that can share them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from vjepa_mlflow import features, model, training
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.stages.encode_clips import encode_clips
from vjepa_mlflow.stages.prepare import Preparation

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrialSetup:
    """What trials of one backbone and one set of features work with.

    Attributes:
        prepared: checked data and the model.
        source: of the features.
        passes: of the model's head, which every trial trains from the same beginning.
        threads: that this process computes with, since the others need cores too.
        first_weights: that beginning.
    """

    prepared: Preparation
    source: features.FeatureSource
    passes: training.HeadPasses
    threads: int
    first_weights: dict[str, Tensor]


class TrialSetups:
    """Gives a trial its setup: the last one's, unless its recipe has another backbone, other data or other features.

    It is a context manager, in which a setup is open until another one is made, or until the block ends.

    Args:
        share: this process's, of what several encode.
        prepare: checks a recipe's data, and makes its model.
    """

    def __init__(self, share: Share, prepare: Callable[[Recipe], Preparation]):
        self._share, self._prepare = share, prepare
        self._made_for: tuple[object, ...] = ()
        self._setup: TrialSetup | None = None
        self._opened = ExitStack()

    def __enter__(self) -> TrialSetups:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends what the setup's features need."""
        self._setup = None
        with suppress(UserError):  # of a full disk: who counts on what was encoded has called `finish` before
            self._opened.__exit__(kind, error, traceback)

    def setup(self, recipe: Recipe) -> TrialSetup:
        """Where a recipe can be tried; its video checks and its model are made on first use.

        Raises:
            UserError: something that the recipe names is not as expected.
        """
        wanted = (recipe.data, recipe.model, recipe.seed, recipe.sampling(num_frames=1), recipe.precision)
        if self._setup is None or wanted != self._made_for:
            self._setup = None  # first, so that its memory is free
            self._opened.close()
            self._setup = self._make(recipe)
            self._made_for = wanted
        return self._setup

    def lacks(self, recipe: Recipe) -> bool:
        """Whether any clip that a recipe reads is not encoded yet."""
        setup = self.setup(recipe)
        return bool(setup.source.missing(list(features.all_clips(setup.prepared.dataset, recipe))))

    def encode(self, recipe: Recipe) -> None:
        """Encodes this process's share of the clips that a recipe reads, or all where the processes share no store."""
        if recipe.cache == "off":
            return
        setup = self.setup(recipe)
        clips = list(features.all_clips(setup.prepared.dataset, recipe))
        share = self._share if recipe.cache == "disk" else Share()
        with model.cpu_threads(setup.threads):
            encode_clips(setup.source, setup.source.affordable(share.of(clips)))
        if self._share.world_size > 1:  # which read what this one has kept
            self.finish()

    def finish(self) -> None:
        """Waits until what was encoded is kept.

        Raises:
            UserError: the store's disk is full.
        """
        if self._setup is not None:
            self._setup.source.finish()

    def _make(self, recipe: Recipe) -> TrialSetup:
        prepared = self._prepare(recipe)
        forms = prepared.forms
        source = features.FeatureSource(prepared.backbone, recipe, form=forms.encoder_form, again=True)
        self._opened.enter_context(source)
        threads = thread_count(prepared.clip_shape.values, self._share.world_size)
        first_weights = {name: value.clone() for name, value in prepared.head.state_dict().items()}
        passes = training.HeadPasses(prepared.head, precision=recipe.precision, form=forms.head_form)
        return TrialSetup(prepared, source, passes, threads, first_weights)
