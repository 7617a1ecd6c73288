"""The first-order gradient: a reference of two passes, the exact one beside it, and memory that doesn't grow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax import models
from dd_jax.inner import batch_loss, gradient_descent, unroll
from dd_jax.inner.first_order import first_order_value_and_gradient
from dd_jax.inner.trajectories import trajectory_distance
from dd_jax.types import Batch

LABELS = jnp.arange(6) % 3


def network(hidden=(7,)):
    return models.mlp(models.Shapes((4, 4, 1), 3), hidden=hidden)


def batch_of(learnable, t):
    """Another half of the images in every other step."""
    chosen = (jnp.arange(3) + 3 * (t % 2)) % 6
    return Batch(learnable["images"][chosen], LABELS[chosen])


def step_size_of(learnable):
    return jnp.exp(learnable["log_size"])


def problem(dtype, hidden=(7,)):
    model = network(hidden)
    start, target = (
        jax.tree.map(lambda leaf: leaf.astype(dtype), jax.jit(model.init)(jax.random.key(i))) for i in (0, 1)
    )
    images = np.random.default_rng(0).normal(size=(6, 4, 4, 1))
    return model, start, target, {"images": jnp.asarray(images, dtype), "log_size": jnp.asarray(-1.5, dtype)}


def reference(model, start, distance, num_steps):
    """Two passes, step by step: all parameters first, then the gradient of the distance with each of them constant."""
    gradient = jax.grad(batch_loss(model.apply))

    def end(learnable, at):
        total = jax.tree.map(jnp.zeros_like, start)
        for t, theta in enumerate(at):
            total = jax.tree.map(jnp.add, total, gradient(theta, batch_of(learnable, t)))
        return jax.tree.map(lambda p, g: p - step_size_of(learnable) * g, start, total)

    def value_and_gradient(learnable):
        at = [start]
        for t in range(num_steps - 1):
            step = gradient(at[-1], batch_of(learnable, t))
            at.append(jax.tree.map(lambda p, g: p - step_size_of(learnable) * g, at[-1], step))
        return jax.value_and_grad(lambda learnable: distance(end(learnable, at)))(learnable)

    return value_and_gradient


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("each_layer", [False, True])
def test_it_is_the_gradient_with_the_parameters_of_all_steps_constant(each_layer):
    model, start, target, learnable = problem(np.float64)
    distance = functools.partial(trajectory_distance, start=start, target=target, each_layer=each_layer)
    found = jax.jit(first_order_value_and_gradient(model.apply, start, 4, batch_of, step_size_of, distance))(learnable)
    expected = jax.jit(reference(model, start, distance, 4))(learnable)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12), found, expected)


def exact(model, start, distance, num_steps):
    def loss(learnable):
        sizes = jnp.broadcast_to(step_size_of(learnable), (num_steps,))
        after = unroll(model.apply, start, jnp.arange(num_steps), gradient_descent(sizes),
                       batch_of=lambda t: batch_of(learnable, t))  # fmt: skip
        return distance(after)

    return jax.value_and_grad(loss)


@pytest.mark.usefixtures("x64")
def test_it_is_exact_for_one_step_and_only_near_for_more():
    """The same value always; with more steps the gradients drift apart, as what is left out counts more."""
    model, start, target, learnable = problem(np.float64)
    distance = functools.partial(trajectory_distance, start=start, target=target)
    cosines = []
    for num_steps in (1, 4, 30):
        first = first_order_value_and_gradient(model.apply, start, num_steps, batch_of, step_size_of, distance)
        (value, mine), (expected, theirs) = (
            jax.jit(f)(learnable) for f in (first, exact(model, start, distance, num_steps))
        )
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        a, b = mine["images"].ravel(), theirs["images"].ravel()
        cosines.append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    np.testing.assert_allclose(cosines[0], 1, rtol=1e-9)
    assert cosines[0] > cosines[1] > cosines[2] > 0.3
    assert cosines[2] < 0.99


@pytest.mark.usefixtures("optimised")
def test_its_memory_does_not_depend_on_the_number_of_steps():
    """That of the exact gradient grows by the parameters of each step, even where all else is computed again."""
    model, start, target, learnable = problem(np.float32, hidden=(64, 64))
    distance = functools.partial(trajectory_distance, start=start, target=target)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(start))

    def allocated(function):
        return jax.jit(function).lower(learnable).compile().memory_analysis().temp_size_in_bytes

    def first_order(num_steps):
        return first_order_value_and_gradient(model.apply, start, num_steps, batch_of, step_size_of, distance)

    few, many = (allocated(first_order(n)) for n in (10, 200))
    assert many - few <= 4 * 190 + 1000  # the numbers of the steps
    exactly = [allocated(exact(model, start, distance, n)) for n in (10, 200)]
    assert exactly[1] - exactly[0] > 0.9 * 190 * size
