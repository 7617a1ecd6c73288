"""Outer steps of a method, in programs that equal methods share."""

import functools

import jax
from jax import lax


@functools.partial(jax.jit, static_argnums=0)
def one_step(step, key, state, arrays):
    """The next state, and what is told of it."""
    return step(key, state, arrays)


@functools.partial(jax.jit, static_argnums=0)
def all_steps(step, keys, state, arrays):
    """The state after a step for each key, and what is told of them, stacked."""
    return lax.scan(lambda state, key: step(key, state, arrays), state, keys)
