"""Heartbeats, watched with a clock of the test's own."""

import pytest

from vjepa_mlflow.search.watch import Watch


def deaths(*looks: tuple[float, object], grace: float = 15) -> list[bool]:
    """Whether one is taken for dead, look by look: seconds since the last one, and the sign that is stored then."""
    now = 0.0
    watch = Watch(grace, lambda: now)
    found = []
    for passed, sign in looks:
        now += passed
        found.append(watch.find_stale({7: sign}) == [7])
    return found


@pytest.mark.parametrize("sign", ["12:00", None])
def test_whose_sign_stays_the_same_is_dead(sign: object) -> None:
    assert deaths(*[(3.0, sign)] * 7) == [False] * 5 + [True] * 2


@pytest.mark.parametrize("signs", ["14:00 13:00 13:01 13:02 13:03 13:04 13:05", "13:00 14:00 14:01 14:02 14:03 14:04"])
def test_a_clock_that_is_set_kills_nobody_and_hides_nobody(signs: str) -> None:
    living = [(5.0, sign) for sign in signs.split()]
    assert not any(deaths(*living))
    assert deaths(*living, *[(5.0, living[-1][1])] * 3)[-1]


def test_time_in_which_nobody_could_look_counts_little() -> None:
    """An outage of the database, or of this process."""
    assert deaths((3, "a"), (3600, "a"), (3600, "a"), (3, "b"), (3600, "b"), (3600, "b")) == [False] * 6


def test_whoever_is_gone_begins_anew() -> None:
    now = 0.0
    watch = Watch(1, lambda: now)
    assert watch.find_stale({1: "a"}) == []
    assert watch.find_stale({}) == []
    now = 100
    assert watch.find_stale({1: "a"}) == []
