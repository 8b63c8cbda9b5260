"""Where features come from: memory, the store, or else the encoder."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

from torch import Tensor

from vjepa_mlflow.bad_videos import BadVideos
from vjepa_mlflow.data import Sample
from vjepa_mlflow.features.assembly import Clip
from vjepa_mlflow.features.cache import FeatureCache
from vjepa_mlflow.features.encoder import Encoder, Encoding
from vjepa_mlflow.features.forms import feature_space
from vjepa_mlflow.features.readings import CLOSE, Readings
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.model import ClipShape, FrozenBackbone, features_dtype
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.video import VideoError, video_cache_dir

logger = get_logger(__name__)

LEAST_CLIPS = 32
"""That are encoded together, however little room there is for their features."""


class FeatureSource:
    """The features of any clips, each encoded once as far as the recipe's cache goes: a context manager.

    What is missing is encoded ahead of who reads it, and all clips of a video together: of those that are expected to
    be read next as many as there is room for, while the ones before are read.

    Args:
        backbone: what encodes.
        recipe: `precision`, `stride`, `frames_per_second`, `bad_videos`, `cache` and `cache_budget` are used.
        form: in which the backbone encodes, see `choose_form`.
        again: whether clips are read again and again, by several trainings. If not, the memory lets go of what is
            expected to be read no more.

    Attributes:
        encoder: what encodes.
        cache: where features are kept.
        encoded: how many clips had to be encoded.
        left_out: the videos that went bad after the check, by name, and what is wrong with them (`bad_videos=skip`).
    """

    def __init__(self, backbone: FrozenBackbone, recipe: Recipe, *, form: str, again: bool = False):
        self.encoder = Encoder(
            backbone,
            form=form,
            sampling=recipe.sampling(backbone.architecture.frames_per_clip),
            precision=recipe.precision,
            cache_dir=video_cache_dir(recipe.cache),
        )
        self._space = feature_space(backbone, recipe, form)
        size = ClipShape.of(backbone.architecture).values * features_dtype(recipe.precision).itemsize
        self.cache = FeatureCache(self._space, recipe, backbone.device, size=size)
        self._again = again and recipe.cache != "off"
        self._bad_videos = BadVideos(recipe.bad_videos)
        self.encoded = 0
        self.left_out: dict[str, str] = {}
        self._readings = Readings(self._space.entry)
        self._encoding: Encoding | None = None
        self._coming: set[str] = set()  # what that will bring, by name
        self._is_behind = False  # whether there may be more to encode, once there is room
        self._least_room = 0  # for clips, from which on it is worth looking

    def missing(self, clips: Iterable[Clip]) -> list[Clip]:
        """The clips whose features would have to be encoded, each once."""
        return list(self._missing(clips))

    def affordable(self, clips: Iterable[Clip]) -> list[Clip]:
        """Of some clips those that are missing, as many as there is room for; it is told where that is not all."""
        missing, room = self.missing(clips), self.cache.room(wanted=self._again)
        if len(missing) > room:
            self.cache.tell_full()
        return missing[:room]

    def expect(self, readings: Iterable[Sequence[Clip]], *, sure: int | None = None) -> list[Clip]:
        """Says which readings there will be, in their order; see `Readings.expect`.

        Returns:
            What of it is to be encoded first: what is missing, will surely be read, and finds room.
        """
        self._readings.expect(readings, sure=sure)
        return self._next_clips(close=0)

    def encode(self, clips: Sequence[Clip]) -> Iterator[Clip]:
        """Encodes clips, and keeps their features as far as there is room; yields each that is done.

        Raises:
            UserError: as `read` says.
        """
        self._begin(clips)
        while self._coming:
            yield from self._advance()

    def read(self, clips: Sequence[Clip]) -> Iterator[Tensor | None]:
        """Yields the features of each clip in turn, of shape (tokens, hidden size), on the model's device.

        It yields None in place of those of a video that is left out.

        Args:
            clips: whose features are wanted. Where this reading was not expected, it is from now on.

        Raises:
            UserError: a video cannot be decoded any more, or has changed, and is not to be left out; or the store's
                disk is full.
        """
        for name in self._readings.begin(clips):
            self._let_go(name)
        self._is_behind |= self._readings.were_unsure
        names = [self._space.entry(clip) for clip in clips]
        stored = [self.cache.on_device(name) is None and self.cache.is_stored(name) for name in names]
        to_fetch = [name for name, is_stored in zip(names, stored, strict=True) if is_stored]
        with closing(self.cache.fetch(to_fetch)) as fetched:
            for clip, name, is_stored in zip(clips, names, stored, strict=True):
                self._encode_ahead()
                features = next(fetched) if is_stored else self.cache.on_device(name)
                if features is None:
                    features = self._wait_for(clip, name)
                self._readings.read_one()
                if features is not None and is_stored:
                    self.cache.put(name, features, wanted=self._want(name), new=False)
                yield None if clip.sample.name in self.left_out else features
                self._let_go(name)

    def finish(self) -> None:
        """Encodes nothing ahead any more, and waits until what was encoded is kept.

        Raises:
            UserError: the store's disk is full.
        """
        self._begin([])
        self.cache.finish()

    def __enter__(self) -> "FeatureSource":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Encodes nothing ahead any more, ends the threads, and without an error does what `finish` does.

        Raises:
            UserError: see `finish`.
        """
        with self.cache:
            self._begin([])
            if error is None:
                self.finish()

    def _missing(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        seen: set[str] = set()
        for clip in clips:
            name = self._space.entry(clip)
            if name not in seen and not self.cache.has(name):
                yield clip
            seen.add(name)

    def _want(self, name: str) -> bool:
        return self._again or self._readings.want(name)

    def _let_go(self, name: str) -> None:
        if not self._readings.want(name):
            self.cache.drop(name, keeps_memory=self._again)

    def _wait_for(self, clip: Clip, name: str) -> Tensor | None:
        """Features that were missing when the reading began; None for those of a video that is left out."""
        while clip.sample.name not in self.left_out:
            if (features := self.cache.on_device(name)) is not None:
                return features
            if name in self._coming:
                self._advance()
            elif not self.cache.is_stored(name):
                self._begin(self._next_clips(at_least=LEAST_CLIPS))
            elif (features := next(self.cache.fetch([name]))) is not None:
                return features
        return None

    def _encode_ahead(self) -> None:
        """Encodes what has been read of the next clips, or has some read, where not all could be encoded first."""
        if self._encoding is not None:
            self._advance(wait=False)
        elif self._is_behind and self.cache.room(wanted=True) >= self._least_room:
            self._is_behind = False  # as far as it was looked at
            self._begin(self._next_clips())

    def _next_clips(self, *, at_least: int = 0, close: int = CLOSE) -> list[Clip]:
        """Of the clips that are expected next those that are missing, as many as there is room for."""
        upcoming = (clip for clip in self._readings.upcoming(close=close) if clip.sample.name not in self.left_out)
        room = max(at_least, self.cache.room(wanted=True))
        missing = list(islice(self._missing(upcoming), room + 1))
        window = missing[:room]
        self._is_behind = len(missing) > room
        self._least_room = max(LEAST_CLIPS, len(window) // 2)
        return window

    def _begin(self, clips: Sequence[Clip]) -> None:
        """Begins to encode clips, in place of those that are still on their way."""
        if self._encoding is not None:
            self._encoding.close()
        self._encoding = self.encoder.encode(clips) if clips else None
        self._coming = {self._space.entry(clip) for clip in clips}

    def _advance(self, *, wait: bool = True) -> list[Clip]:
        """Takes features that have been encoded, and keeps them. Returns whose they are."""
        assert self._encoding is not None
        encoded = self._encoding.take(wait=wait)
        for clip, features in encoded:
            name = self._space.entry(clip)
            self._coming.discard(name)
            if isinstance(features, VideoError):
                self._leave_out(clip.sample, features)
            else:
                self.encoded += 1
                self.cache.put(name, features, wanted=self._want(name), new=True)
        if self._encoding.is_done:
            self._begin([])
        return [clip for clip, _ in encoded]

    def _leave_out(self, sample: Sample, fault: VideoError) -> None:
        message = self._bad_videos.while_training(sample.path, fault)
        if sample.name not in self.left_out:
            logger.warning(message)
            self.left_out[sample.name] = str(fault)
