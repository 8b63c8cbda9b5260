"""Where features come from: memory, the store, or else the encoder."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import psutil
import torch
from torch import Tensor

from vjepa_mlflow.data import Sample
from vjepa_mlflow.errors import UserError, expected, remark
from vjepa_mlflow.features.contents import free_space, store_folder
from vjepa_mlflow.features.encoder import Clip, Encoder
from vjepa_mlflow.features.forms import feature_space
from vjepa_mlflow.features.memory import Budget, FeatureMemory
from vjepa_mlflow.features.store import FeatureStore
from vjepa_mlflow.features.transfer import to_device
from vjepa_mlflow.iteration import map_ahead
from vjepa_mlflow.model import FrozenBackbone
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.video import VideoError, video_notes

SHARE = 0.5
"""Of the memory or the disk that is free at the start: what features may take where no budget is given."""


class FeatureSource:
    """The features of any clips, each encoded once as far as the recipe's cache goes.

    Near, in the memory of the model's device, are features that are read again in this process. Far, in the store or
    in the host's memory, is what the near memory has no room for, and with `cache=disk` everything, for other runs.

    Args:
        backbone: what encodes.
        recipe: `precision`, `stride`, `frames_per_second`, `bad_videos`, `cache` and `cache_budget` are used.
        form: in which the backbone encodes, see `choose_form`.

    Attributes:
        encoder: what encodes.
        encoded: how many clips had to be encoded.
        full: whether some features were not kept for want of room, or of the right to write to the store.
        left_out: the videos that went bad after the check, by name, and what is wrong with them (`bad_videos=skip`).
    """

    def __init__(self, backbone: FrozenBackbone, recipe: Recipe, *, form: str):
        self._device = backbone.device
        self.encoder = Encoder(
            backbone,
            form=form,
            sampling=recipe.sampling(backbone.architecture.frames_per_clip),
            precision=recipe.precision,
            notes=video_notes(recipe.cache),
        )
        self._space = feature_space(backbone, recipe, form)
        host, budget = torch.device("cpu"), int(recipe.cache_budget * 2**30)
        self._near = FeatureMemory(self._device)
        self._far: FeatureStore | FeatureMemory = FeatureMemory(host)
        self._far_budget = Budget(0)
        if recipe.cache == "disk":
            self._far = FeatureStore(self._space)
            self._far_budget = Budget(budget or int(SHARE * free_space(store_folder())))
        elif recipe.cache == "memory" and self._device != host:
            self._far_budget = Budget(budget or int(SHARE * _free_memory(host)))
        is_near = recipe.cache == "memory" and self._device == host  # so that a budget for the host is for near
        self._near_size = 0 if recipe.cache == "off" else budget if is_near and budget else None
        self.encoded = 0
        self.full = False
        self.left_out: dict[str, str] = {}
        self._skips = recipe.bad_videos == "skip"
        self._tells = recipe.cache != "off"
        self._lost: set[str] = set()  # what is there and cannot be read, nor perhaps deleted

    @cached_property
    def _near_budget(self) -> Budget:
        """Made when first something is to be kept: by then what encodes has taken its memory."""
        size = self._near_size
        return Budget(int(SHARE * _free_memory(self._device)) if size is None else size)

    def missing(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips whose features would have to be encoded."""
        return [clip for clip in clips if self._place(self._space.entry(clip)) == "encoder"]

    def read(self, clips: Sequence[Clip], *, again: bool, following: Sequence[Clip] = ()) -> Iterator[Tensor | None]:
        """Yields the features of each clip in turn, of shape (tokens, hidden size), on the model's device.

        It yields None in place of those of a video that is left out.

        Args:
            clips: whose features are wanted.
            again: whether they will be read again in this process.
            following: the clips that will be wanted next. While the last of these are encoded, the videos of those
                are read already, as far as they need encoding.

        Raises:
            UserError: a video cannot be decoded any more, or has changed, and is not to be left out; or the store's
                disk is full.
        """
        done = 0
        while done < len(clips):
            for features in self._read_until_lost(clips[done:], again, following):
                yield features
                done += 1

    def finish(self) -> None:
        """Waits until what was read is kept.

        Raises:
            UserError: the store's disk is full.
        """
        self._far.finish()
        self._tell_denied()

    def check_kept(self) -> None:
        """Refuses a store that this user may not write to, for work that is done for it alone.

        Raises:
            UserError: something could not be kept there.
        """
        if (denial := self._denial) is not None:
            raise UserError(
                f"feature store {store_folder()}: cannot be written ({denial.strerror}): expected "
                f"{expected(denial)}; VJEPA_MLFLOW_CACHE names another folder"
            )

    @property
    def _denial(self) -> OSError | None:
        return self._far.denial if isinstance(self._far, FeatureStore) else None

    def _tell_denied(self) -> None:
        if (denial := self._denial) is not None and not self.full:
            remark(
                f"feature store {store_folder()}: cannot be written ({denial.strerror}): what is not there is encoded "
                f"again by each run; VJEPA_MLFLOW_CACHE names another folder"
            )
            self.full = True

    def _read_until_lost(
        self, clips: Sequence[Clip], again: bool, following: Sequence[Clip]
    ) -> Iterator[Tensor | None]:
        """Like `read`, but ends where kept features turn out to be damaged, or to have been deleted meanwhile."""
        names = [self._space.entry(clip) for clip in clips]
        places = [
            "nowhere" if clip.sample.name in self.left_out else self._place(name)
            for clip, name in zip(clips, names, strict=True)
        ]
        wanted = list(zip(clips, names, places, strict=True))
        origins: dict[str, Iterator[Tensor | VideoError | None]] = {
            "near": (self._near.read(name) for _, name, place in wanted if place == "near"),
            "far": map_ahead(self._load, [name for _, name, place in wanted if place == "far"]),
            "encoder": self.encoder.encode(
                [clip for clip, _, place in wanted if place == "encoder"], self._missing_later(clips, following)
            ),
        }
        for clip, name, place in wanted:
            if place == "nowhere":
                yield None
                continue
            features = next(origins[place])
            if features is None:
                self._lost.add(name)
                return
            if isinstance(features, VideoError):
                self._leave_out(clip.sample, features)
                yield None
                continue
            self._keep(name, features, again=again, new=place == "encoder")
            yield features

    def _leave_out(self, sample: Sample, fault: VideoError) -> None:
        if not self._skips:
            raise UserError(
                f"{sample.path}: {fault}: expected it to be as the check found it; bad_videos=skip leaves it out"
            ) from fault
        if sample.name not in self.left_out:
            remark(f"{sample.path}: {fault}: left out from here on (bad_videos=skip)")
            self.left_out[sample.name] = str(fault)

    def _missing_later(self, clips: Sequence[Clip], following: Sequence[Clip]) -> Iterator[Clip]:
        """Of what follows after these clips, what is neither kept nor will be by then."""
        known = set(clips)
        for clip in following:
            if clip not in known and self._place(self._space.entry(clip)) == "encoder":
                yield clip

    def _place(self, name: str) -> str:
        if name in self._near:
            return "near"
        return "far" if name in self._far and name not in self._lost else "encoder"

    def _load(self, name: str) -> Tensor | None:
        features = self._far.read(name)
        return None if features is None else to_device(features, self._device)

    def _keep(self, name: str, features: Tensor, *, again: bool, new: bool) -> None:
        if again and name not in self._near and self._near_budget.take(features.nbytes):
            self._near.write(name, features)
        self.encoded += new
        lasts = isinstance(self._far, FeatureStore)
        if new and (lasts or (again and name not in self._near)):
            if self._far_budget.take(features.nbytes):
                self._far.write(name, features)
                self._lost.discard(name)
                self._tell_denied()
            else:
                self._tell_full()

    def _tell_full(self) -> None:
        if self._tells and not self.full:
            remark("The cache is full: further clips are encoded whenever they are needed (see cache_budget)")
        self.full = True


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
