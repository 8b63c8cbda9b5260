import shutil
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.data import VideoDataset
from vjepa_mlflow.features import Clip, EvaluationSet, FeatureSource, TrainingSet
from vjepa_mlflow.features import cache as feature_cache
from vjepa_mlflow.model import CENTRED, LoadedBackbone, locate
from vjepa_mlflow.video import FileVersion, View


def make_source(model: VJEPA2ForVideoClassification, *, again: bool = False, **recipe: object) -> FeatureSource:
    backbone = LoadedBackbone(model, locate("tiny").preprocessing)
    return FeatureSource(backbone, Recipe(**recipe), form="transformers", again=again)  # type: ignore[arg-type]


@pytest.fixture
def clips(dataset: VideoDataset) -> list[Clip]:
    return [Clip(sample, view) for sample in dataset.splits["train"][:4] for view in (CENTRED, View(position=0.1))]


def count_encoded(source: FeatureSource, monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """The real encoder, with a list of what it was asked for."""
    asked: list[Clip] = []
    encode = source.encoder.encode

    def counting(clips: Sequence[Clip]) -> object:
        asked.extend(clips)
        return encode(clips)

    monkeypatch.setattr(source.encoder, "encode", counting)
    return asked


def read(source: FeatureSource, clips: Sequence[Clip]) -> list[torch.Tensor]:
    features = list(source.read(clips))
    source.finish()
    return features  # type: ignore[return-value]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def stored_files(cache: Path) -> list[Path]:
    return sorted((cache / "features").rglob("*.safetensors"))


def test_cached_features_are_the_encoders_bit_for_bit(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read(make_source(model, cache="off"), clips)
    assert stored_files(own_cache) == []
    assert same(read(make_source(model, cache="memory"), clips), expected)
    assert stored_files(own_cache) == []
    first = make_source(model)
    assert same(read(first, clips), expected)
    assert len(stored_files(own_cache)) == len(clips)
    second = make_source(model, again=True)
    asked = count_encoded(second, monkeypatch)
    assert same(read(second, clips), expected)
    assert same(read(second, clips[::-1]), expected[::-1])
    assert asked == []
    assert second.missing(clips) == []


@pytest.mark.parametrize(("cache", "encoded"), [("disk", 1), ("memory", 1), ("off", 2)])
def test_what_is_read_again_is_encoded_once_unless_nothing_is_kept(
    model: VJEPA2ForVideoClassification,
    clips: list[Clip],
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: str,
    encoded: int,
) -> None:
    source = make_source(model, cache=cache, again=True)
    asked = count_encoded(source, monkeypatch)
    for _ in range(2):
        read(source, clips)
    assert sorted(asked, key=clips.index) == sorted(clips * encoded, key=clips.index)


def test_a_reading_may_mix_what_is_there_and_what_is_not(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read(make_source(model, cache="off"), clips)
    source = make_source(model)
    read(source, clips[::3])
    read(source, clips[1:2])
    asked = count_encoded(source, monkeypatch)
    assert same(read(source, clips), expected)
    assert asked == [clip for clip in clips if clip not in (*clips[::3], clips[1])]


def test_the_same_clip_twice_in_one_reading_is_no_trouble(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path
) -> None:
    a, b = clips[:2]
    first, second, third = read(make_source(model), [a, a, b])
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize("lost", ["all", "some", "damaged"])
def test_a_store_that_is_deleted_or_damaged_meanwhile_costs_only_time(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, lost: str
) -> None:
    source = make_source(model)
    expected = read(source, clips)
    features = []
    for number, one in enumerate(source.read(clips * 8)):  # longer than what is read ahead
        features.append(one)
        if number == 3:
            files = stored_files(own_cache)
            if lost == "all":
                shutil.rmtree(own_cache / "features")
            elif lost == "some":
                for file in files[::2]:
                    file.unlink()
            else:
                for file in files[::2]:
                    file.write_bytes(file.read_bytes()[:-100])
    assert same(features, expected * 8)


def test_what_does_not_fit_the_budget_is_encoded_again_and_told(
    model: VJEPA2ForVideoClassification,
    clips: list[Clip],
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = read(make_source(model, cache="off"), clips)
    size = expected[0].nbytes
    source = make_source(model, cache_budget=3.5 * size / 2**30)
    asked = count_encoded(source, monkeypatch)
    for _ in range(2):
        assert same(read(source, clips), expected)
    assert len(stored_files(own_cache)) == 3
    assert set(asked) == set(clips)
    assert len(asked) == 2 * len(clips) - 3
    told = capsys.readouterr().err
    assert told.count("The cache is full: further clips are encoded whenever they are needed (see cache_budget)") == 1


def test_the_budget_holds_for_memory_too(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read(make_source(model, cache="off"), clips)
    source = make_source(model, cache="memory", cache_budget=3.5 * expected[0].nbytes / 2**30, again=True)
    asked = count_encoded(source, monkeypatch)
    for _ in range(2):
        assert same(read(source, clips), expected)
    assert set(asked) == set(clips)
    assert len(asked) == 2 * len(clips) - 3


def encoded(model: VJEPA2ForVideoClassification, clips: Iterable[Clip]) -> dict[Clip, torch.Tensor]:
    return dict(make_source(model, cache="off").encoder.encode(list(dict.fromkeys(clips))))  # type: ignore[arg-type]


def three_epochs(clips: list[Clip]) -> list[list[Clip]]:
    """Readings of fresh views, after each of which one set is read again."""
    fresh = [[clip._replace(view=View(position=0.2 * number)) for clip in clips[::2]] for number in range(3)]
    return [reading for epoch in fresh for reading in (epoch, clips[1::2])]


@pytest.mark.parametrize(
    ("cache", "room"), [("disk", 1000), ("disk", 7), ("disk", 0), ("memory", 2), ("off", 1000), ("off", 7)]
)
def test_a_plan_is_read_as_it_was_expected_however_little_room_there_is(
    model: VJEPA2ForVideoClassification,
    clips: list[Clip],
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: str,
    room: int,
) -> None:
    readings = three_epochs(clips)
    expected = encoded(model, chain(*readings))
    size = expected[clips[1]].nbytes
    monkeypatch.setattr(feature_cache, "_free_memory", lambda _: 2 * room * size)
    monkeypatch.setattr(feature_cache, "free_space", lambda _: 2 * room * size)
    source = make_source(model, cache=cache)
    asked = count_encoded(source, monkeypatch)
    first = source.expect(readings)
    assert len(first) == min(room, len(expected))
    assert set(source.encode(first)) == set(first)
    for reading in readings:
        assert same(list(source.read(reading)), [expected[clip] for clip in reading])  # type: ignore[arg-type]
    source.finish()
    assert len(asked) == len(expected) or room < len(expected)
    assert not source.cache._held
    assert not source.cache._device_memory._features


def test_without_any_room_many_clips_are_still_encoded_at_a_time(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(model, cache="memory", cache_budget=1e-11)
    assert source.cache.room(wanted=True) == 0
    calls = []
    encode = source.encoder.encode
    monkeypatch.setattr(source.encoder, "encode", lambda wanted: calls.append(len(wanted)) or encode(wanted))
    read(source, clips)
    assert calls == [len(clips)]


def test_files_of_the_same_content_are_encoded_once(
    model: VJEPA2ForVideoClassification,
    clips: list[Clip],
    own_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies = [clip._replace(sample=replace(clip.sample, name=f"copy of {clip.sample.name}")) for clip in clips[:2]]
    source = make_source(model, cache="off")
    asked = count_encoded(source, monkeypatch)
    first = read(source, [*clips[:2], *copies])
    assert same(first[:2], first[2:])
    assert asked == clips[:2]


def test_where_the_store_keeps_nothing_in_a_clips_place_it_is_held(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encoded(model, clips)
    monkeypatch.setattr(feature_cache, "_free_memory", lambda _: 0)
    source = make_source(model)
    read(source, clips)
    for path in stored_files(own_cache)[:2]:
        path.unlink()
        path.mkdir()
    asked = count_encoded(source, monkeypatch)
    assert same(read(source, clips), [expected[clip] for clip in clips])
    assert len(asked) <= 2 * 2


def test_what_may_not_be_read_is_encoded_when_it_comes_near(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, last = three_epochs(clips), [clips[0]._replace(view=View(position=0.9))]
    expected = encoded(model, chain(*readings, last))
    source = make_source(model)
    asked = count_encoded(source, monkeypatch)
    assert source.expect([*readings, last], sure=0) == []  # as of a run that patience had ended
    first = source.expect([*readings, last], sure=2)
    assert first == [*readings[0], *readings[1]]
    list(source.encode(first))
    for reading in (readings[0], readings[1], last):  # as where patience ends
        assert same(list(source.read(reading)), [expected[clip] for clip in reading])  # type: ignore[arg-type]
    source.finish()
    assert set(asked) == {*first, *readings[2], *last}
    assert not source.cache._device_memory._features


def test_precision_sampling_and_weights_each_have_features_of_their_own(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path
) -> None:
    read(make_source(model), clips[:1])
    for changes in ({"precision": "bf16"}, {"stride": 2}, {"frames_per_second": 4.0}):
        other = make_source(model, **changes)
        assert other.missing(clips[:1]) == clips[:1]
        read(other, clips[:1])
    assert len(stored_files(own_cache)) == 4
    assert make_source(model, learning_rate=1.0, seed=7).missing(clips[:1]) == []


@pytest.mark.parametrize("vanished", [True, False])
def test_a_video_that_goes_bad_after_the_check_goes_by_the_rule(
    model: VJEPA2ForVideoClassification,
    dataset: VideoDataset,
    tmp_path: Path,
    vanished: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.mp4"
    if not vanished:
        shutil.copy(dataset.splits["train"][0].path, path)
    bad = replace(dataset.splits["train"][1], path=path, version=FileVersion(1, 1))
    good = dataset.splits["train"][0]
    clips = [Clip(good, CENTRED), Clip(bad, CENTRED), Clip(bad, View(position=0.1)), Clip(good, CENTRED)]
    fault = "there is no such file" if vanished else "it has changed since it was checked"
    with pytest.raises(UserError, match=rf"^{path}: {fault}: expected .* bad_videos=skip"):
        read(make_source(model, cache="off"), clips)

    source = make_source(model, cache="off", bad_videos="skip")
    for _ in range(2):
        first, none, also_none, last = read(source, clips)
        assert none is also_none is None
        assert torch.equal(first, last)
    assert source.left_out == {bad.name: fault}
    assert capsys.readouterr().err.splitlines() == [f"{path}: {fault}: left out from here on (bad_videos=skip)"]

    training = TrainingSet(source, replace(dataset, splits={**dataset.splits, "train": [good, bad]}), Recipe())
    assert len(list(training.read(1))) == 1
    evaluation = EvaluationSet(source, [bad, good], dataset.labels, num_clips=2)
    assert len(list(evaluation.read())) == 2
    assert evaluation.given == evaluation.clips[2:]


def test_a_block_keeps_what_was_encoded_and_leaves_no_thread(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path
) -> None:
    before = set(threading.enumerate())
    with make_source(model, cache="disk") as source:
        assert len(list(source.read(clips[:2]))) == 2
    assert len(stored_files(own_cache)) == 2
    assert set(threading.enumerate()) <= before


def test_a_block_that_fails_encodes_nothing_more_and_raises_its_own_error(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    source = make_source(model, cache="disk")
    monkeypatch.setattr(source.cache, "finish", lambda: pytest.fail("the error stands for itself"))
    with pytest.raises(ValueError, match="mine") as raised, source:
        raise_at_first(source, clips)
    assert raised.value.__context__ is None
    assert source.encoded < len(clips)
    assert set(threading.enumerate()) <= before


def raise_at_first(source: FeatureSource, clips: Sequence[Clip]) -> None:
    for _ in source.read(clips):
        raise ValueError("mine")


def test_a_block_tells_that_the_disk_is_full(
    model: VJEPA2ForVideoClassification, clips: list[Clip], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vjepa_mlflow.features.store.write_atomically", fail)
    source = make_source(model, cache="disk")
    with pytest.raises(UserError, match="cannot be written"), source:
        list(source.read(clips[:1]))
    assert set(threading.enumerate()) <= before
