from pathlib import Path

import numpy as np
import pytest
import torch

from vjepa_mlflow.data import Sample
from vjepa_mlflow.features import Clip
from vjepa_mlflow.features.assembly import Assembly, FailedClip, ReadClip, Resized, resize_pictures
from vjepa_mlflow.model import locate, resize
from vjepa_mlflow.video import VideoError, View
from vjepa_mlflow.video.one_pass import Failed, Pictures, Placed
from vjepa_mlflow.video.picture import Colours, Turn, to_rgb

SAMPLE = Sample(Path("a.mp4"), "a.mp4", "a")


ON_GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif("not torch.cuda.is_available()")])


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("turn", [Turn(), Turn(True, mirrors_rows=True), Turn(False, True, True)])
def test_planes_are_resized_as_the_rgb_that_swscale_makes_of_them(
    turn: Turn, interleaved: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vjepa_mlflow.features.assembly.PIXELS_AT_ONCE", 2 * 40 * 60 * 3)
    planes = np.random.default_rng(0).integers(0, 256, (5, 40 * 60 * 3 // 2), np.uint8)
    colours = Colours.of(1, full=False)
    pictures = Pictures([1, 2, 5, 6, 7], planes, 40, 60, colours, interleaved, turn)
    rgb = np.stack([turn.apply(to_rgb(values, 40, 60, colours, interleaved)) for values in planes])
    preprocessing = locate("tiny").preprocessing
    found = resize_pictures(preprocessing, pictures, torch.from_numpy(planes).to(device))
    assert found.indices == pictures.indices
    assert torch.equal(found.frames, resize(preprocessing, torch.from_numpy(rgb).to(device).permute(0, 3, 1, 2)))


def frames(*numbers: int) -> Resized:
    return Resized(list(numbers), torch.tensor(numbers, dtype=torch.uint8).view(-1, 1, 1, 1))


def numbers_of(clips: list[ReadClip | FailedClip]) -> list[tuple[Clip, list[int]]]:
    return [(clip.clip, clip.frames.flatten().tolist()) for clip in clips if isinstance(clip, ReadClip)]


def test_a_clip_is_given_once_its_last_frame_has_come() -> None:
    early, late = Clip(SAMPLE, View(0.1)), Clip(SAMPLE, View(0.9))
    mirrored = Clip(SAMPLE, View(0.1, flip=True))
    assembly = Assembly([late, early, mirrored])
    assert list(assembly.take(Placed({0.9: [3, 5, 5], 0.1: [0, 2, 3]}))) == []
    assert list(assembly.take(frames(0, 2))) == []
    assert numbers_of(list(assembly.take(frames(3)))) == [(early, [0, 2, 3]), (mirrored, [0, 2, 3])]
    assert set(assembly._frames) == {3}
    assert numbers_of(list(assembly.take(frames(5)))) == [(late, [3, 5, 5])]
    assert not assembly._frames


def test_what_is_begun_again_gives_only_what_was_not_given() -> None:
    early, late = Clip(SAMPLE, View(0.1)), Clip(SAMPLE, View(0.9))
    assembly = Assembly([early, late])
    list(assembly.take(Placed({0.1: [0], 0.9: [4]})))
    assert numbers_of(list(assembly.take(frames(0)))) == [(early, [0])]
    list(assembly.take(Placed({0.1: [1], 0.9: [2]})))  # as by a process that took the place of one that died
    assert numbers_of(list(assembly.take(frames(1, 2)))) == [(late, [2])]
    error = VideoError("gone")
    assert list(assembly.take(Failed(0.1, error))) == []
    other = Assembly([early, late])
    assert list(other.take(Failed(0.9, error))) == [FailedClip(late, error)]
