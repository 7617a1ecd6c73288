"""Outer steps of a method, in programs that equal methods share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@functools.partial(jax.jit, static_argnums=0)
def one_step(step, key, state, arrays):
    """The next state, and what is told of it."""
    return step(key, state, arrays)


@functools.partial(jax.jit, static_argnums=0)
def all_steps(step, keys, state, arrays):
    """The state after a step for each key, and what is told of them, stacked."""
    return lax.scan(lambda state, key: step(key, state, arrays), state, keys)


def arrays_of(method, data, seed=0, window=0):
    """The arrays that the steps of one window read."""
    arrays, feed = method.arrays(data), method.feed
    return arrays if feed is None else feed.join(arrays, jax.tree.map(jnp.asarray, feed.read(seed, window)))


def assert_gradient_is_that_of_finite_differences(loss, learnable):
    """In double precision, in each array of what is learnt along a direction of its own."""
    gradient = jax.jit(jax.grad(loss))(learnable)
    leaves, tree = jax.tree.flatten(learnable)
    for number, leaf in enumerate(leaves):
        direction = np.random.default_rng(number).normal(size=leaf.shape)

        def along(t, number=number, direction=direction):
            moved = [part + t * direction if i == number else part for i, part in enumerate(leaves)]
            return loss(jax.tree.unflatten(tree, moved))

        found = np.vdot(jax.tree.leaves(gradient)[number], direction)
        step = 3e-7
        expected = (along(step) - along(-step)) / (2 * step)
        assert abs(expected) > 1e-6
        np.testing.assert_allclose(found, expected, rtol=2e-5)
