from pathlib import Path

from vjepa_mlflow.data import Sample
from vjepa_mlflow.features import Clip
from vjepa_mlflow.features.readings import Readings
from vjepa_mlflow.video import View

A, B, C, D = (Clip(Sample(Path(name), name, "a"), View()) for name in "abcd")


def read_all(readings: Readings, clips: list[Clip]) -> None:
    readings.begin(clips)
    for _ in clips:
        readings.read_one()


def test_a_clip_is_wanted_until_its_last_reading() -> None:
    readings = Readings(lambda clip: clip.sample.name)
    readings.expect([[A, B], [C], [D], [C]])
    assert list(readings.upcoming()) == [A, B, C, D, C]
    readings.begin([A, B])
    readings.read_one()
    assert list(readings.upcoming()) == [B, C, D, C]
    assert [readings.want(name) for name in "abcd"] == [False, True, True, True]
    readings.read_one()
    read_all(readings, [C])
    assert readings.want("c")
    read_all(readings, [D])
    read_all(readings, [C])
    assert not readings.want("c")
    assert list(readings.upcoming()) == []


def test_readings_that_were_left_out_are_not_wanted_any_more() -> None:
    readings = Readings(lambda clip: clip.sample.name)
    readings.expect([[A], [B], [A, C], [B, D]])
    readings.begin([A])
    assert readings.begin([B, D]) == ["a", "c"]
    assert [readings.want(name) for name in "abcd"] == [False, True, False, True]


def test_a_reading_that_nobody_expected_leaves_the_others_as_they_were() -> None:
    readings = Readings(lambda clip: clip.sample.name)
    readings.expect([[A], [B]])
    assert readings.begin([D]) == []
    assert list(readings.upcoming()) == [D, A, B]


def test_of_what_may_not_come_only_the_next_readings_are_upcoming() -> None:
    readings = Readings(lambda clip: clip.sample.name)
    readings.expect([[A], [B], [C], [B], [D], [B]], sure=3)
    assert list(readings.upcoming()) == [A, B, C]
    read_all(readings, [A])
    assert list(readings.upcoming()) == [B, C]
    assert list(readings.upcoming(close=0)) == [B, C]
    assert not readings.were_unsure
    read_all(readings, [B])
    assert list(readings.upcoming()) == [C, B]
    assert list(readings.upcoming(close=0)) == [C]
    assert readings.were_unsure
    for clips in ([C], [B]):
        read_all(readings, clips)
    assert list(readings.upcoming()) == [D, B]
