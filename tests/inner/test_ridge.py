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
    x, t = (jnp.asarray(generator.normal(size=(count, 12))) for count in (n, real))
    y, wanted = (jnp.asarray(generator.normal(size=(count, classes))) for count in (n, real))
    return linear_kernel(x, x) + jnp.eye(n), linear_kernel(t, x), y, wanted


@pytest.mark.usefixtures("x64")
def test_ridge_weights_solve_the_regularised_system():
    gram, _, y, _ = problem()
    weights = ridge_weights(gram, y, 0.1)
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
    solved = label_solve(gram, cross, wanted, 1e-4)

    def loss(y):
        return ridge_loss(gram, cross, y, wanted, 1e-4)

    np.testing.assert_allclose(jax.grad(loss)(solved), 0, atol=1e-12)
    shift = 1e-4 * jnp.trace(gram) / 6
    product = cross @ jnp.linalg.inv(gram + shift * jnp.eye(6))
    np.testing.assert_allclose(solved, jnp.linalg.pinv(product) @ wanted, rtol=1e-8)
    for seed in range(3):
        other = solved + 0.01 * jax.random.normal(jax.random.key(seed), solved.shape)
        assert loss(other) > loss(solved)


def test_the_regulariser_is_raised_only_where_there_is_no_factor():
    gram, *_ = problem()
    gram = gram.astype(jnp.float32)
    assert enough(gram, 1e-6) == np.float32(1e-6)
    short = gram - 1.5e-3 * jnp.trace(gram) / 6 * jnp.eye(6) - (jnp.linalg.eigvalsh(gram)[0]) * jnp.eye(6)
    raised = enough(short, 1e-6)
    assert 1e-3 < raised < 0.02
    assert np.isfinite(ridge_weights(short, jnp.ones((6, 1)), raised)).all()
    assert enough(jnp.full((2, 2), jnp.nan), 1e-6) >= 1, "it ends where there is nothing to be had"
    np.testing.assert_array_equal(jax.grad(lambda g: enough(g, 1e-6))(gram), 0)


def test_copies_of_an_image_are_no_trouble_in_float32():
    """Such as those of the class mean, as a baseline for several images of each class."""
    images = jnp.repeat(jax.random.normal(jax.random.key(0), (4, 3, 3, 1)), 25, axis=0)
    found = regress(linear_kernel, Batch(images, jnp.repeat(jnp.arange(4), 25)), 4, 1e-6)
    logits = linear_kernel(images, images) @ found.weights
    np.testing.assert_array_equal(logits.argmax(-1), np.repeat(np.arange(4), 25))


def test_regression_interpolates_its_centred_labels():
    images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    hard = jnp.arange(8) % 3
    found = regress(linear_kernel, Batch(images, hard), 3, 1e-6)
    np.testing.assert_allclose(linear_kernel(images, images) @ found.weights, centred(hard, 3), atol=1e-3)
    soft = regress(linear_kernel, Batch(images, jax.nn.one_hot(hard, 3)), 3, 1e-6)
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
