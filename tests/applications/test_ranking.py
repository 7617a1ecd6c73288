"""Rankings: what the mathematics gives, and SciPy's own coefficients."""

import numpy as np
import pytest
from scipy import stats

from dd_jax.applications.ranking import COEFFICIENTS, Interval, correlation, difference, kendall, resampled, spearman
from dd_jax.errors import OptionError

DRAW = np.random.default_rng(0)
RISING = np.array([0.1, 0.4, 0.2, 0.9, 0.7])


@pytest.mark.parametrize("coefficient", COEFFICIENTS.values())
def test_the_same_order_gives_one_and_the_reversed_one_minus_one(coefficient):
    assert coefficient(RISING, RISING**3) == pytest.approx(1)
    assert coefficient(RISING, -RISING) == pytest.approx(-1)


@pytest.mark.parametrize("levels", [3, 1000])
def test_they_are_those_of_scipy_with_equal_values_too(levels):
    x, y = (DRAW.integers(0, levels, 40).astype(float) for _ in range(2))
    assert spearman(x, y + x) == pytest.approx(stats.spearmanr(x, y + x).statistic)
    assert kendall(x, y + x) == pytest.approx(stats.kendalltau(x, y + x).statistic)


@pytest.mark.parametrize("coefficient", COEFFICIENTS.values())
def test_without_differences_there_is_no_ranking(coefficient):
    assert np.isnan(coefficient(np.ones(5), RISING))
    found = correlation(coefficient, np.ones(5), RISING, resampled(5))
    assert str(found) == "–"


def test_the_interval_has_the_truth_as_often_as_it_says():
    """Of normal pairs with a Spearman coefficient that is known in closed form."""
    rho = 0.6
    truth, inside, rounds = 6 / np.pi * np.arcsin(rho / 2), 0, 100
    for number in range(rounds):
        x, noise = np.random.default_rng(number).normal(size=(2, 60))
        y = rho * x + np.sqrt(1 - rho**2) * noise
        found = correlation(spearman, x, y, resampled(60, number, 100))
        inside += found.low <= truth <= found.high
    assert 0.85 < inside / rounds < 0.99


def test_a_ranking_is_no_better_than_itself():
    y = DRAW.normal(size=30)
    x, samples = y + DRAW.normal(size=30), resampled(30, 0, 200)
    assert difference(spearman, x, x, y, samples) == Interval(0, 0, 0)
    found = difference(spearman, y, -y, y, samples)
    assert found.value == pytest.approx(2)
    assert found.low == pytest.approx(2)


def test_two_candidates_are_no_ranking():
    with pytest.raises(OptionError, match="at least 3 candidates"):
        resampled(2)
