"""What a recipe's `bad_videos` says is done."""

import pytest

from vjepa_mlflow.bad_videos import BadVideos
from vjepa_mlflow.errors import UserError


def test_before_a_training_they_stop_it_or_are_left_out() -> None:
    with pytest.raises(UserError) as stopped:
        BadVideos("stop").before_training("clips", count="2 of 9 videos", first="a/1.mp4")
    assert str(stopped.value) == (
        "data=clips: 2 of 9 videos cannot be used, the first is a/1.mp4: expected readable videos; mend them, or leave "
        "them out with bad_videos=skip"
    )
    message = BadVideos("skip").before_training("clips", count="2 of 9 videos", first="a/1.mp4")
    assert message == "Left out 2 of 9 videos (bad_videos=skip)"


def test_without_a_training_it_is_said_that_one_would_stop() -> None:
    with pytest.raises(UserError) as stopped:
        BadVideos("stop").instead_of_training("clips", count="2 of 9 videos")
    assert str(stopped.value) == (
        "data=clips: 2 of 9 videos cannot be used: a training would stop there; mend them, or leave them out with "
        "bad_videos=skip"
    )
    BadVideos("skip").instead_of_training("clips", count="2 of 9 videos")


def test_while_training_one_stops_it_or_is_left_out_from_then_on() -> None:
    fault = ValueError("it is empty")
    with pytest.raises(UserError) as stopped:
        BadVideos("stop").while_training("/clips/1.mp4", fault)
    assert str(stopped.value) == (
        "/clips/1.mp4: it is empty: expected it to be as the check found it; bad_videos=skip leaves it out"
    )
    assert stopped.value.__cause__ is fault
    message = BadVideos("skip").while_training("/clips/1.mp4", fault)
    assert message == "/clips/1.mp4: it is empty: left out from here on (bad_videos=skip)"
