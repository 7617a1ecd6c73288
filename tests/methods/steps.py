"""Outer steps of a method, in programs that equal methods share."""

import functools

import jax
import jax.numpy as jnp
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
