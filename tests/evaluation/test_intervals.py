import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from benchmarks.coverage import Cell, cover
from vjepa_mlflow.evaluation import TOO_FEW, Estimate, estimate_means, estimate_shares, proportion
from vjepa_mlflow.evaluation.intervals import _degrees


def wilson(hits: int, videos: int) -> tuple[float, float]:
    expected = stats.binomtest(hits, videos).proportion_ci(method="wilson")
    return expected.low, expected.high


def even_groups(count: int, size: int, *, seed: int = 0, spread: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Hits and the groups of videos in groups whose videos are alike."""
    generator = np.random.default_rng(seed)
    shares = np.clip(generator.normal(0.7, spread, size=count), 0, 1)
    groups = np.repeat(np.arange(count), size)
    return generator.random(count * size) < shares[groups], groups


def mean(sums: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean": sums[:, 0] / sums[:, 1]}


def columns(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones(len(values))], axis=1)


@pytest.mark.parametrize(("hits", "videos"), [(0, 7), (1, 7), (7, 7), (2, 2), (93, 96), (500, 1000)])
def test_a_share_of_videos_of_their_own_has_wilsons_interval(hits: int, videos: int) -> None:
    found = proportion(np.arange(videos) < hits, 3 * np.arange(videos))
    assert found == pytest.approx((hits / videos, *wilson(hits, videos)), abs=1e-12)


def test_even_groups_have_students_interval_of_their_shares_in_log_odds() -> None:
    hits, groups = even_groups(30, 8)
    found = proportion(hits, groups)
    shares = hits.reshape(30, 8).mean(axis=1)
    reach = stats.t.ppf(0.975, 29) * stats.sem(shares) / (shares.mean() * (1 - shares.mean()))
    middle = logit(shares.mean())
    assert found == pytest.approx((shares.mean(), expit(middle - reach), expit(middle + reach)), abs=1e-9)
    low, high = wilson(hits.sum(), len(hits))
    assert found.high - found.low > 1.3 * (high - low)


def test_uneven_groups_have_students_interval_of_bell_and_mccaffrey() -> None:
    """Of a mean, residuals of each group are divided by the root of what is not the group's; in logarithms."""
    sizes = np.array([2, 9, 5, 5, 12])
    groups = np.repeat(np.arange(5), sizes)
    losses = np.random.default_rng(1).lognormal(size=33) * np.random.default_rng(2).lognormal(size=5)[groups]
    residuals = np.bincount(groups, weights=losses - losses.mean()) / np.sqrt(1 - sizes / 33)
    error = np.sqrt((residuals**2).sum()) / 33
    factor = np.exp(stats.t.ppf(0.975, _degrees(sizes / 33)) * error / losses.mean())
    found = estimate_means(mean, columns(losses), groups)["mean"]
    assert found == pytest.approx((losses.mean(), losses.mean() / factor, losses.mean() * factor))


@pytest.mark.parametrize("sizes", [[5, 5, 5, 5], [1, 3, 10, 4, 4], [2, 2, 20]])
def test_degrees_of_freedom_are_satterthwaites(sizes: list[int]) -> None:
    """Twice the variance's squared mean over its variance, by the matrix of the quadratic form that it is."""
    shares = np.array(sizes) / sum(sizes)
    deviations = np.eye(len(sizes)) - shares
    form = deviations.T @ np.diag(shares**2 / (1 - shares)) @ deviations @ np.diag(1 / np.array(sizes))
    assert _degrees(shares) == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))


def test_groups_that_all_agree_count_as_one_video_each() -> None:
    found = proportion(np.ones(40, dtype=bool), np.repeat(np.arange(5), 8))
    assert found == pytest.approx((1.0, wilson(5, 5)[0], 1.0))
    uneven = proportion(np.ones(40, dtype=bool), np.repeat(np.arange(5), [1, 1, 1, 1, 36]))
    assert uneven.low < 0.5 * found.low
    one_mistake = proportion(np.arange(40) > 0, np.repeat(np.arange(5), 8))
    assert one_mistake.low <= found.low


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_is_never_narrower_than_that_of_videos_of_their_own(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.lognormal(size=60)
    hits = values > np.quantile(values, generator.uniform(0, 0.6))
    groups = generator.integers(4 + seed, size=60)
    found, alone = proportion(hits, groups), wilson(hits.sum(), 60)
    assert found.low <= alone[0]
    assert found.high >= alone[1]
    for estimate in (estimate_shares, estimate_means):
        table = columns(hits if estimate is estimate_shares else values)
        wide, narrow = (estimate(mean, table, one)["mean"] for one in (groups, np.arange(60)))
        assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high


def test_fewer_than_four_groups_have_no_interval() -> None:
    hits, groups = even_groups(3, 20)
    for found in (
        proportion(hits, groups),
        estimate_shares(mean, columns(hits), groups)["mean"],
        estimate_means(mean, columns(hits), groups)["mean"],
    ):
        assert found == (hits.mean(), None, None)
        assert found.interval(3) == TOO_FEW
    assert proportion(*even_groups(4, 20)).low is not None
    assert Estimate(0.5, 0.25, 0.75).interval(2) == "0.25 to 0.75"


def test_neither_order_nor_numbers_nor_names_of_groups_matter() -> None:
    hits, groups = even_groups(6, 9)
    order = np.random.default_rng(4).permutation(len(hits))
    for estimate in (estimate_shares, estimate_means):
        first = estimate(mean, columns(hits), groups)["mean"]
        assert estimate(mean, columns(hits[order]), 100 - 7 * groups[order])["mean"] == pytest.approx(first)
    share, low, high = proportion(hits, groups)
    assert proportion(~hits, groups) == pytest.approx((1 - share, 1 - high, 1 - low))
    scaled = estimate_means(mean, columns(10.0 * hits), groups)["mean"]
    assert scaled == pytest.approx(10 * np.array(estimate_means(mean, columns(hits), groups)["mean"]))


@pytest.mark.parametrize(
    "cell",
    [Cell("degree", 4, "even", 0.5, 0.8), Cell("degree", 10, "halves", 0.2, 0.8), Cell("kind", 4, "even", 0, 0.9)],
)
def test_intervals_hold_what_they_promise(cell: Cell) -> None:
    held = cover(cell, 300)["metrics"]
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "loss"):
        assert held[name]["coverage"] >= 0.93


def test_the_bootstrap_did_not() -> None:
    held = cover(Cell("degree", 4, "even", 0, 0.8), 200, bootstrapped=True)["metrics"]
    assert held["accuracy"]["coverage"] < 0.9
    assert held["loss"]["coverage"] < 0.9
