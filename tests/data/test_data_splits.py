import numpy as np
import pytest

from dd_jax.data.splits import carve
from dd_jax.errors import OptionError


@pytest.fixture
def labels():
    return np.random.default_rng(1).choice(4, size=503, p=[0.5, 0.3, 0.15, 0.05])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
def test_parts_are_disjoint_complete_and_stratified(labels, fraction):
    rest, carved = carve(labels, fraction, seed=0, stream=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, carved])), np.arange(len(labels)))
    counts, kept = np.bincount(labels), np.bincount(labels[rest], minlength=4)
    assert (kept >= 1).all()
    assert (np.bincount(labels[carved], minlength=4) >= 1).all()
    assert (np.abs(kept - (1 - fraction) * counts) <= 1).all()


def test_total_is_the_rounded_share(labels):
    assert len(carve(labels, 0.1, 0, 0)[1]) == round(0.1 * len(labels))


def test_same_seed_same_parts_other_seed_or_stream_other_parts(labels):
    first = carve(labels, 0.2, 3, 0)[1]
    np.testing.assert_array_equal(first, carve(labels, 0.2, 3, 0)[1])
    assert set(first) != set(carve(labels, 0.2, 4, 0)[1])
    assert set(first) != set(carve(labels, 0.2, 3, 1)[1])


def test_class_of_one_stays_whole_and_zero_carves_nothing():
    rest, carved = carve(np.array([0, 0, 0, 1]), 0.5, 0, 0)
    assert 3 in rest
    assert len(carved) == 2
    assert carve(np.array([0, 0, 1, 1]), 0.0, 0, 0)[1].size == 0


@pytest.mark.parametrize(("fraction", "seed"), [(1.0, 0), (-0.1, 0), (float("nan"), 0), (0.1, -1)])
def test_senseless_options(labels, fraction, seed):
    with pytest.raises(OptionError):
        carve(labels, fraction, seed, 0)
