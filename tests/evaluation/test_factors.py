import numpy as np
import pandas as pd
import pytest
from evaluations import predictions_of_hits
from scipy import stats

from vjepa_mlflow.evaluation import FACTORS, slice_by_factors
from vjepa_mlflow.evaluation.factors import _p_worse


def textbook_holm(p_values: list[float]) -> list[float]:
    """Step down: each p-value times how many are not smaller, and no less than what came before."""
    ranked = sorted(p_values)
    stepped = [min(1.0, p * (len(ranked) - place)) for place, p in enumerate(ranked)]
    return [max(stepped[: ranked.index(p) + 1]) for p in p_values]


def test_slices_are_terciles_and_compared_as_scipy_does() -> None:
    generator = np.random.default_rng(3)
    hits = generator.random(90) < 0.8
    properties = {name: generator.random(90) for name in ("brightness", "motion")}
    slices = slice_by_factors(predictions_of_hits(hits), properties)
    raw = []
    for part in slices:
        inside = (properties[part.factor] >= part.low) & (properties[part.factor] <= part.high)
        expected = pd.qcut(properties[part.factor], 3, labels=["lowest third", "middle third", "highest third"])
        assert (expected[inside] == part.tercile).all()
        assert (part.videos, part.accuracy.value) == (30, hits[inside].mean())
        table = [[hits[inside].sum(), (~hits[inside]).sum()], [hits[~inside].sum(), (~hits[~inside]).sum()]]
        raw.append(stats.fisher_exact(table, alternative="less").pvalue)
    assert [part.factor for part in slices] == ["motion"] * 3 + ["brightness"] * 3
    assert [part.p_value for part in slices] == pytest.approx(textbook_holm(raw))


def test_equal_values_stay_together_and_one_value_is_no_factor() -> None:
    properties = {"resolution": np.full(30, 240.0), "duration": np.repeat([1.0, 2.0], [20, 10])}
    slices = slice_by_factors(predictions_of_hits(np.ones(30, dtype=bool)), properties)
    assert [(part.tercile, part.low, part.high, part.videos) for part in slices] == [
        ("lowest third", 1.0, 1.0, 20),
        ("highest third", 2.0, 2.0, 10),
    ]


@pytest.mark.parametrize("grouped", [False, True])
def test_a_planted_weakness_is_flagged_where_it_is(grouped: bool) -> None:
    generator = np.random.default_rng(7)
    properties = {name: generator.random(150) for name in FACTORS}
    dark = properties["brightness"] < np.quantile(properties["brightness"], 1 / 3)
    hits = generator.random(150) < np.where(dark, 0.5, 0.97)
    groups = np.arange(150) // 3 if grouped else np.arange(150)
    slices = slice_by_factors(predictions_of_hits(hits, groups), properties)
    worst = min(slices, key=lambda part: part.p_value)
    assert (worst.factor, worst.tercile, worst.worse) == ("brightness", "lowest third", True)
    assert sum(part.worse for part in slices) <= 2  # what goes along with it by chance may be flagged as well


def test_where_nothing_is_planted_hardly_anything_is_flagged() -> None:
    """At most 5% of such sets, all nine properties together."""
    generator = np.random.default_rng(5)
    sets = 400
    flagged = 0
    for _ in range(sets):
        hits = generator.random(96) < 0.85
        slices = slice_by_factors(predictions_of_hits(hits), {name: generator.random(96) for name in FACTORS})
        flagged += any(part.worse for part in slices)
    assert flagged / sets <= 0.05


@pytest.mark.parametrize("count", [8, 40])
def test_groups_that_are_alike_are_no_evidence_of_their_own(count: int) -> None:
    """What is of a group, such as its light, is compared with as much evidence as there are groups."""
    generator = np.random.default_rng(6)
    groups = np.repeat(np.arange(count), 6)
    p_values = []
    for _ in range(1000):
        shares = np.clip(generator.normal(0.75, 0.2, size=count), 0, 1)
        hits = generator.random(len(groups)) < shares[groups]
        chosen = (generator.permutation(count) < count // 3)[groups]
        p_values.append(_p_worse(predictions_of_hits(hits, groups), chosen))
    assert np.mean(np.array(p_values) <= 0.05) < 0.07
    assert np.mean(np.array(p_values) <= 0.002) < 0.01
