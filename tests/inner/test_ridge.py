"""Kernel ridge regression: its normal equations, its derivatives, label solve, and what rounding does to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dd_jax.errors import OptionError
from dd_jax.inner import (
    Regression,
    as_shares,
    centred,
    enough,
    label_solve,
    regress,
    ridge_loss,
    ridge_weights,
    squared_error,
)
from dd_jax.types import Batch


def linear_kernel(x, y):
    return x.reshape(len(x), -1) @ y.reshape(len(y), -1).T


def problem(n=6, real=40, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    x, t = (generator.normal(size=(count, 12)) for count in (n, real))
    y, wanted = (generator.normal(size=(count, classes)) for count in (n, real))
    return tuple(map(jnp.asarray, (linear_kernel(x, x) + np.eye(n), linear_kernel(t, x), y, wanted)))


@pytest.mark.usefixtures("x64")
def test_ridge_weights_solve_the_regularised_system():
    gram, _, y, _ = problem()
    weights = np.asarray(jax.jit(ridge_weights)(gram, y, 0.1))
    shift = 0.1 * np.trace(gram) / 6
    np.testing.assert_allclose(gram @ weights + shift * weights, y, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_loss_is_half_the_mean_squared_error_and_its_gradient_is_that_of_finite_differences():
    gram, cross, y, wanted = problem()
    shift = 1e-3 * np.trace(gram) / 6
    predicted = cross @ np.linalg.solve(gram + shift * np.eye(6), y)
    loss = jax.jit(ridge_loss)
    np.testing.assert_allclose(loss(gram, cross, y, wanted, 1e-3), 0.5 * ((predicted - wanted) ** 2).mean(), rtol=1e-10)

    def of(factor, cross, y):
        return loss(factor @ factor.T + jnp.eye(6), cross, y, wanted, 1e-3)

    check_grads(of, (jnp.asarray(np.random.default_rng(1).normal(size=(6, 6))), cross, y), 1, ["rev"], rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_label_solve_is_the_minimiser():
    gram, cross, _, wanted = problem()
    solved = jax.jit(label_solve)(gram, cross, wanted, 1e-4)
    loss = jax.jit(jax.value_and_grad(lambda y: ridge_loss(gram, cross, y, wanted, 1e-4)))
    np.testing.assert_allclose(loss(solved)[1], 0, atol=1e-12)
    shift = 1e-4 * np.trace(gram) / 6
    product = np.asarray(cross) @ np.linalg.inv(gram + shift * np.eye(6))
    np.testing.assert_allclose(solved, np.linalg.pinv(product) @ wanted, rtol=1e-8)
    for seed in range(3):
        other = np.asarray(solved) + 0.01 * np.random.default_rng(seed).normal(size=solved.shape)
        assert loss(jnp.asarray(other))[0] > loss(solved)[0]


def test_the_regulariser_is_raised_only_where_there_is_no_factor():
    gram, *_ = problem()
    gram, factored = gram.astype(jnp.float32), jax.jit(jax.value_and_grad(enough))
    found, slope = factored(gram, 1e-6)
    assert found == np.float32(1e-6)
    least = np.linalg.eigvalsh(gram)[0]
    short = jnp.asarray(gram - np.float32(1.5e-3 * np.trace(gram) / 6 + least) * np.eye(6, dtype=np.float32))
    raised, _ = factored(short, 1e-6)
    assert 1e-3 < raised < 0.02
    assert np.isfinite(jax.jit(ridge_weights)(short, jnp.ones((6, 1)), raised)).all()
    assert factored(jnp.full((6, 6), jnp.nan), 1e-6)[0] >= 1, "it ends where there is nothing to be had"
    np.testing.assert_array_equal(slope, 0)


def test_copies_of_an_image_are_no_trouble_in_float32():
    """Such as those of the class mean, as a baseline for several images of each class."""
    drawn = np.random.default_rng(0).normal(size=(4, 3, 3, 1)).astype(np.float32)
    images, labels = (jnp.asarray(np.repeat(each, 25, axis=0)) for each in (drawn, np.arange(4)))
    found = jax.jit(lambda given: regress(linear_kernel, given, 4, 1e-6))(Batch(images, labels))
    logits = np.asarray(linear_kernel(images, images) @ found.weights)
    np.testing.assert_array_equal(logits.argmax(-1), np.repeat(np.arange(4), 25))


def test_regression_interpolates_its_centred_labels():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 4, 1)), jnp.float32)
    hard, regressed = jnp.arange(8) % 3, jax.jit(lambda given: regress(linear_kernel, given, 3, 1e-6))
    found = regressed(Batch(images, hard))
    np.testing.assert_allclose(linear_kernel(images, images) @ found.weights, centred(hard, 3), atol=1e-3)
    soft = regressed(Batch(images, jax.nn.one_hot(hard, 3)))
    np.testing.assert_array_equal(found.weights, soft.weights)


def test_labels_are_centred_and_shares_again():
    hard, soft = jnp.array([2, 0]), jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(centred(hard, 3).sum(1), 0, atol=1e-6)
    np.testing.assert_array_equal(centred(hard, 3), centred(soft, 3))
    np.testing.assert_array_equal(as_shares(hard), hard)
    np.testing.assert_array_equal(as_shares(soft), soft)
    learnt = jnp.array([[-0.2, 0.3, 0.9], [-1.0, -2.0, -3.0]])
    np.testing.assert_allclose(as_shares(learnt), [[0, 0.25, 0.75], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)


def test_the_squared_error_is_that_from_centred_labels():
    logits = jnp.array([[1.0, 0.0, -1.0], [0.0, 0.5, 0.0]])
    expected = (
        0.5 * ((1 + 1 / 3) ** 2 + (1 / 3) ** 2 + (-1 - 2 / 3) ** 2 + (-2 / 3) ** 2 + (5 / 6) ** 2 + (1 / 3) ** 2) / 2
    )
    np.testing.assert_allclose(squared_error(logits, jnp.array([2, 0])), expected, rtol=1e-6)
    np.testing.assert_allclose(squared_error(logits, jax.nn.one_hot(jnp.array([2, 0]), 3)), expected, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -1e-6, float("inf"), float("nan")])
def test_a_regulariser_is_positive(value):
    with pytest.raises(OptionError, match="regulariser must be positive and finite"):
        Regression(value)
