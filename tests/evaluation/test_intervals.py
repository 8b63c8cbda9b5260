import numpy as np
import pytest
from scipy import stats

from vjepa_mlflow.evaluation import Estimate, bootstrap, proportion


@pytest.mark.parametrize(("hits", "videos"), [(0, 7), (1, 7), (7, 7), (93, 96), (500, 1000)])
def test_a_share_of_videos_of_their_own_has_wilsons_interval(hits: int, videos: int) -> None:
    found = proportion(np.arange(videos) < hits, np.arange(videos))
    expected = stats.binomtest(hits, videos).proportion_ci(method="wilson")
    assert found == pytest.approx((hits / videos, expected.low, expected.high), abs=1e-12)


def test_a_bootstrap_is_scipys() -> None:
    losses = np.random.default_rng(1).lognormal(size=120)
    found = bootstrap(lambda weights: {"loss": weights @ losses / weights.sum(axis=1)}, np.arange(120))["loss"]
    expected = stats.bootstrap((losses,), np.mean, method="BCa", rng=0).confidence_interval
    width = expected.high - expected.low
    assert found.value == pytest.approx(losses.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.1 * width)


def groups(count: int, size: int, *, seed: int = 0, spread: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Hits and units of groups whose videos are alike."""
    generator = np.random.default_rng(seed)
    shares = np.clip(generator.normal(0.7, spread, size=count), 0, 1)
    units = np.repeat(np.arange(count), size)
    return generator.random(count * size) < shares[units], units


def test_groups_are_drawn_as_a_whole() -> None:
    hits, units = groups(30, 8)
    found = proportion(hits, units)
    sums = np.bincount(units, weights=hits)
    expected = stats.bootstrap(
        (sums, np.bincount(units)), lambda hit, all_, axis: hit.sum(axis) / all_.sum(axis), paired=True, rng=0
    ).confidence_interval
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.1 * width)
    alone = proportion(hits, np.arange(len(hits)))
    assert found.high - found.low > 1.3 * (alone.high - alone.low)


def test_groups_that_all_agree_count_as_one_video_each() -> None:
    expected = stats.binomtest(5, 5).proportion_ci(method="wilson")
    found = proportion(np.ones(40, dtype=bool), np.repeat(np.arange(5), 8))
    assert found == pytest.approx((1.0, expected.low, 1.0))


def test_intervals_hold_what_they_promise() -> None:
    truth = np.clip(np.random.default_rng(0).normal(0.7, 0.25, size=100_000), 0, 1).mean()
    intervals = [proportion(*groups(40, 4, seed=seed)) for seed in range(200)]
    assert np.mean([low <= truth <= high for _, low, high in intervals]) > 0.9


def test_an_interval_holds_its_estimate() -> None:
    """Drawings of a calibration error lie above it: what they say is corrected for."""
    generator = np.random.default_rng(2)
    gaps = generator.normal(0, 0.3, size=(60, 15))
    found = bootstrap(lambda weights: {"x": np.abs(weights @ gaps).sum(axis=1) / 60}, np.arange(60))["x"]
    assert isinstance(found, Estimate)
    assert found.low <= found.value <= found.high
