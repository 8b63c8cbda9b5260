"""Which features the cache keeps where, and what it lets go of."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vjepa_mlflow import Recipe
from vjepa_mlflow.features.cache import FeatureCache
from vjepa_mlflow.features.memory import Budget
from vjepa_mlflow.features.names import FeatureSpace

SPACE = FeatureSpace("backbone", "processor", 16, 4, 0.0, "fp32", "transformers")
CPU = torch.device("cpu")
NAMES = [f"{number:064x}" for number in range(4)]
SIZE = 4 * 6 * 4


def features(number: int) -> torch.Tensor:
    return torch.full((4, 6), float(number))


def make_cache(kind: str, *, clips: int = 4) -> FeatureCache:
    """A cache with room for so many clips, in memory or on disk."""
    return FeatureCache(SPACE, Recipe(cache=kind, cache_budget=clips * SIZE / 2**30), CPU, size=SIZE)


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, own_cache: Path) -> Iterator[FeatureCache]:
    with make_cache(request.param) as cache:
        yield cache


def test_what_will_be_read_is_at_hand(cache: FeatureCache) -> None:
    cache.put(NAMES[0], features(1), wanted=True, new=True)
    assert torch.equal(cache.on_device(NAMES[0]), features(1))  # type: ignore[arg-type]
    assert cache.has(NAMES[0])
    assert not cache.has(NAMES[1])


def test_what_has_been_read_goes_unless_memory_is_kept(cache: FeatureCache) -> None:
    cache.put(NAMES[0], features(1), wanted=True, new=True)
    cache.drop(NAMES[0], keeps_memory=True)
    assert cache.on_device(NAMES[0]) is not None
    cache.drop(NAMES[0], keeps_memory=False)
    assert cache.on_device(NAMES[0]) is None


def test_a_place_that_was_dropped_is_given_to_another(own_cache: Path) -> None:
    with make_cache("memory", clips=1) as cache:
        cache.put(NAMES[0], features(0), wanted=True, new=True)
        assert cache.room(wanted=True) == 0
        cache.drop(NAMES[0], keeps_memory=False)
        assert cache.room(wanted=True) == 1


def test_what_finds_no_room_is_held_until_it_is_read(own_cache: Path) -> None:
    with make_cache("memory", clips=1) as cache:
        for number, name in enumerate(NAMES[:2]):
            cache.put(name, features(number), wanted=True, new=True)
        assert cache.full
        assert torch.equal(cache.on_device(NAMES[1]), features(1))  # type: ignore[arg-type]
        cache.drop(NAMES[1], keeps_memory=True)
        assert not cache.has(NAMES[1])
        assert cache.has(NAMES[0])


def test_what_nobody_here_wants_is_stored_alone(own_cache: Path) -> None:
    with make_cache("disk") as cache:
        cache.put(NAMES[0], features(3), wanted=False, new=True)
        cache.finish()
        assert cache.on_device(NAMES[0]) is None
        assert cache.is_stored(NAMES[0])
        (found,) = cache.fetch([NAMES[0]])
        assert torch.equal(found, features(3))  # type: ignore[arg-type]


def test_what_is_lost_is_told_once_and_then_is_missing(own_cache: Path) -> None:
    with make_cache("disk") as cache:
        cache.put(NAMES[0], features(3), wanted=False, new=True)
        cache.finish()
        (file,) = own_cache.rglob("*.safetensors")
        file.write_bytes(b"damaged")
        assert list(cache.fetch([NAMES[0]])) == [None]
        assert not cache.has(NAMES[0])
        cache.put(NAMES[0], features(3), wanted=False, new=True)
        cache.finish()
        assert cache.has(NAMES[0])


def test_without_a_cache_nothing_stays_and_nothing_is_said(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FeatureCache(SPACE, Recipe(cache="off"), CPU, size=SIZE) as cache:
        cache.put(NAMES[0], features(1), wanted=False, new=True)
        assert not cache.has(NAMES[0])
    assert "full" not in capsys.readouterr().err
    assert not list(own_cache.rglob("*.safetensors"))


def test_fetching_that_is_given_up_leaves_no_thread(own_cache: Path) -> None:
    before = set(threading.enumerate())
    with make_cache("disk") as cache:
        for number, name in enumerate(NAMES):
            cache.put(name, features(number), wanted=False, new=True)
        fetched = cache.fetch(NAMES)
        next(fetched)
        fetched.close()
    assert set(threading.enumerate()) <= before


def test_a_budget_is_used_and_given_back() -> None:
    budget = Budget(10)
    assert budget.take(7)
    assert not budget.take(4)
    assert budget.left == 3
    budget.give_back(7)
    assert budget.take(10)
    assert not budget.take(1)
