"""Herding, k-center and k-means choose what their definitions say."""

import itertools

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.synthetic import cover, herd, initial_images, nearest_to_centres


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) + 5


def test_herding_is_greedy_for_the_mean(vectors):
    """The t-th index is the one of those left that brings the mean of t vectors nearest to the mean of all."""
    found, mean = herd(vectors, 10), vectors.mean(0)
    for t in range(1, 11):
        left = [i for i in range(40) if i not in found[: t - 1]]
        gaps = [np.linalg.norm(vectors[[*found[: t - 1], i]].mean(0) - mean) for i in left]
        assert found[t - 1] == left[int(np.argmin(gaps))]


def test_a_longer_list_begins_with_the_shorter_one(vectors):
    for choose in (herd, cover):
        np.testing.assert_array_equal(choose(vectors, 12)[:5], choose(vectors, 5))


def test_the_mean_of_herded_vectors_is_nearer_than_that_of_random_ones(vectors):
    gap = np.linalg.norm(vectors[herd(vectors, 8)].mean(0) - vectors.mean(0))
    rng = np.random.default_rng(1)
    random = [np.linalg.norm(vectors[rng.choice(40, 8, replace=False)].mean(0) - vectors.mean(0)) for _ in range(200)]
    assert gap < np.quantile(random, 0.05)


@pytest.mark.parametrize("choose", [herd, cover])
def test_the_first_is_the_one_nearest_to_the_mean(vectors, choose):
    assert choose(vectors, 1)[0] == np.linalg.norm(vectors - vectors.mean(0), axis=1).argmin()


@pytest.mark.parametrize("choose", [herd, cover, lambda v, n: nearest_to_centres(v, n, 0)])
def test_every_vector_is_taken_before_any_comes_again(choose):
    vectors = np.random.default_rng(2).normal(size=(5, 2)).astype(np.float32)
    assert sorted(choose(vectors, 5)) == [0, 1, 2, 3, 4]
    assert sorted(np.bincount(choose(vectors, 12), minlength=5)) == [2, 2, 2, 3, 3]


@pytest.mark.parametrize("choose", [herd, cover, lambda v, n: nearest_to_centres(v, n, 0)])
def test_vectors_that_are_all_alike_are_no_obstacle(choose):
    found = choose(np.ones((6, 2), np.float32), 4)
    assert len(found) == 4
    assert set(found) <= set(range(6))


def test_each_centre_is_the_vector_farthest_from_those_before(vectors):
    found = cover(vectors, 6)
    for t in range(1, 6):
        nearest = np.linalg.norm(vectors[:, None] - vectors[found[:t]][None], axis=-1).min(1)
        assert found[t] == nearest.argmax()


def test_the_greedy_radius_is_at_most_twice_the_best():
    vectors = np.random.default_rng(3).normal(size=(12, 2)).astype(np.float32)

    def radius(chosen):
        return np.linalg.norm(vectors[:, None] - vectors[list(chosen)][None], axis=-1).min(1).max()

    best = min(radius(chosen) for chosen in itertools.combinations(range(12), 3))
    assert best <= radius(cover(vectors, 3)) <= 2 * best


def test_of_clusters_that_lie_apart_each_gives_its_middle():
    rng = np.random.default_rng(4)
    middles = 100 * np.eye(3)
    vectors = np.concatenate([middles, *(middles[i] + rng.normal(size=(20, 3)) for i in range(3))]).astype(np.float32)
    labels = np.concatenate([np.arange(3), np.repeat(np.arange(3), 20)])
    assert sorted(labels[cover(vectors, 3)]) == [0, 1, 2]
    for index in nearest_to_centres(vectors, 3, seed=0):
        mine = vectors[labels == labels[index]]
        assert np.linalg.norm(vectors[index] - mine.mean(0)) == np.linalg.norm(mine - mine.mean(0), axis=1).min()
    assert sorted(labels[nearest_to_centres(vectors, 3, seed=0)]) == [0, 1, 2]


def test_images_may_start_from_herding(digits):
    labels = np.repeat(np.arange(10), 2)
    found = np.asarray(initial_images(jax.random.key(0), digits, labels, 3, "herding"))
    assert found.shape == (3, 20, 8, 8, 1)
    images, classes = map(np.asarray, digits.train)
    mine = images[classes == 4]
    chosen = mine[herd(mine.reshape(len(mine), -1), 6)]
    np.testing.assert_array_equal(found[:, labels == 4].reshape(6, 8, 8, 1), chosen)
    again = initial_images(jax.random.key(1), digits, labels, 3, "herding")
    np.testing.assert_array_equal(again, found)


def test_methods_take_it_and_refuse_what_is_near_it(digits, digits_mlp):
    method = dd.methods.distribution_matching(digits_mlp, images_per_class=2, init_images="herding")
    state = method.init(jax.random.key(0), digits, 1)
    expected = initial_images(jax.random.key(9), digits, np.repeat(np.arange(10), 2), 1, "herding")
    np.testing.assert_array_equal(method.distilled(state).images, expected)
    with pytest.raises(OptionError, match="Did you mean 'herding'"):
        initial_images(jax.random.key(0), digits, np.arange(10), 1, "hearding")
