"""What a video may be: one policy for strangers' files, another for one's own."""

import math
from collections.abc import Callable

import pytest

from vjepa_mlflow.video import Limits, VideoError
from vjepa_mlflow.video.limits import OWN_FILES

LIMITS = Limits(
    max_video_bytes=10, max_frames=10, max_pixels=100, max_aspect_ratio=2.0, max_seconds=10.0, codecs=("h264",)
)


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (lambda one: one.check_size(10), lambda one: one.check_size(11), "it has 11 bytes: expected at most 10"),
        (lambda one: one.check_frames(10), lambda one: one.check_frames(11), "it has 11 frames: expected at most 10"),
        (lambda one: one.check_seconds(10.0), lambda one: one.check_seconds(11.0), "it lasts 11 s: expected at most"),
        (lambda one: one.check_pixels(10, 10), lambda one: one.check_pixels(10, 11), "10x11 pixels: expected at most"),
        (lambda one: one.check_shape(2, 4), lambda one: one.check_shape(2, 5), "2x5 pixels: expected a side to be"),
        (lambda one: one.check_shape(4, 2), lambda one: one.check_shape(5, 2), "5x2 pixels: expected a side to be"),
        (lambda one: one.check_codec("h264"), lambda one: one.check_codec("vp9"), "its codec is vp9: expected one of"),
    ],
)
def test_each_limit_is_the_last_that_is_taken(
    good: Callable[[Limits], None], bad: Callable[[Limits], None], message: str
) -> None:
    good(LIMITS)
    with pytest.raises(VideoError, match=message):
        bad(LIMITS)
    bad(OWN_FILES)


def test_ones_own_files_have_limits_of_their_own_but_where_a_server_has_others_than_the_defaults() -> None:
    assert Limits().for_own_files() == OWN_FILES
    own = Limits(max_frames=7).for_own_files()
    assert own.max_frames == 7
    assert own.max_seconds == math.inf
    assert own.codecs == ()
