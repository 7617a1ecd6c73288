"""Momentum, Adam, intermediate losses and windows: values by hand or PyTorch's rule, hypergradients by differences."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dd_jax import models
from dd_jax.errors import OptionError
from dd_jax.inner import RULES as NAMED
from dd_jax.inner import (
    IntermediateLoss,
    Window,
    adam,
    batch_loss,
    gradient_descent,
    momentum,
    rmsprop,
    rule_named,
    unroll,
    unroll_on,
    unroll_with_losses,
)
from dd_jax.types import Batch

pytestmark = pytest.mark.usefixtures("x64")

T = 6
MODEL = models.mlp(models.Shapes((3, 3, 1), 3), hidden=(4,))
LABELS = jnp.tile(jnp.arange(3), (2, 1))
RULES = {
    "descent": lambda sizes, others: gradient_descent(sizes),
    "momentum": lambda sizes, others: momentum(sizes, 0.9),
    "momentum of each step": momentum,
    "adam": lambda sizes, others: adam(sizes, 0.8, 0.95, 1e-6),
    "rmsprop": lambda sizes, others: rmsprop(sizes, 0.9, 1e-6),
}


@functools.cache
def point():
    """(parameters, images of two batches, step sizes, momenta, real images) in float64, a generic point."""
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) / 2), MODEL.init(jax.random.key(0)))
    images, sizes = jnp.asarray(draw.normal(size=(2, 3, 3, 3, 1))), jnp.asarray(np.linspace(0.05, 0.1, T))
    real = Batch(jnp.asarray(draw.normal(size=(12, 3, 3, 1))), jnp.asarray(np.arange(12) % 3))
    return params, images, sizes, jnp.asarray(np.linspace(0.5, 0.9, T)), real


def batches(images):
    """The two batches in turn, T of them."""
    steps = jnp.arange(T) % 2
    return Batch(images[steps], LABELS[steps])


def trained(rule, images, sizes, others, **options):
    return unroll(MODEL.apply, point()[0], batches(images), RULES[rule](sizes, others), **options)


def outer(rule, images, sizes, others, **options):
    return batch_loss(MODEL.apply)(trained(rule, images, sizes, others, **options), point()[-1])


def by_optax(transform_of, sizes):
    """The parameters after T steps of one transform of optax for each step, in a plain loop."""
    params, images = point()[:2]
    state = transform_of(0).init(params)
    for t in range(T):
        batch = Batch(images[t % 2], LABELS[t % 2])
        updates, state = transform_of(t).update(jax.grad(batch_loss(MODEL.apply))(params, batch), state, params)
        params = jax.tree.map(lambda p, u, size=sizes[t]: p - size * u, params, updates)
    return params


@pytest.mark.parametrize("rule", RULES)
def test_values_are_those_of_optax_in_a_loop(rule):
    _, images, sizes, momenta, _ = point()
    transform = {
        "descent": lambda t: optax.identity(),
        "momentum": lambda t: optax.trace(0.9),
        "momentum of each step": lambda t: optax.trace(float(momenta[t])),
        "adam": lambda t: optax.scale_by_adam(0.8, 0.95, 1e-6),
        "rmsprop": lambda t: optax.scale_by_rms(0.9, 1e-6, eps_in_sqrt=False),
    }[rule]
    found = jax.jit(functools.partial(trained, rule))(images, sizes, momenta)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), found, by_optax(transform, sizes))


def check_by_differences(function, point, step=1e-6):
    """The gradient of `function` at arrays, along itself and along noise, against central differences."""
    value = jax.jit(function)
    gradient = jax.jit(jax.grad(function, argnums=tuple(range(len(point)))))(*point)
    for i, found in enumerate(map(np.asarray, gradient)):
        noise = np.random.default_rng(i).normal(size=found.shape)
        length = np.linalg.norm(found)
        assert length > 0, "an argument that matters"
        for towards in (found / length, found / length + noise / np.linalg.norm(noise)):
            ahead, behind = (
                float(value(*(a + s * towards if j == i else a for j, a in enumerate(point)))) for s in (step, -step)
            )
            np.testing.assert_allclose(np.vdot(found, towards), (ahead - behind) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("name", NAMED)
def test_a_training_in_two_parts_is_the_same_as_in_one(name):
    params, images, sizes, momenta, _ = point()
    steps = jnp.arange(T)

    @functools.partial(jax.jit, static_argnums=0)
    def in_parts(ends):
        state = params, rule_named(name, sizes).init(params)
        for first, last in itertools.pairwise(ends):
            mine = slice(first, last)
            rule = rule_named(name, sizes[mine], momenta[mine], first)
            batch_of = lambda t: Batch(images[t % 2], LABELS[t % 2])  # noqa: E731
            state = unroll_on(MODEL.apply, state, steps[mine], rule, batch_of=batch_of)
        return state[0]

    one, two = in_parts((0, T)), in_parts((0, 2, T))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), one, two)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one, params)
    assert max(jax.tree.leaves(moved)) > 1e-2
    with pytest.raises(OptionError, match="Did you mean 'adam'"):
        rule_named("adams", sizes)


@pytest.mark.parametrize("remat", ["none", "steps", "nested"])
@pytest.mark.parametrize("rule", RULES)
def test_hypergradients_agree_with_finite_differences(rule, remat):
    """In images, step sizes and, where they are learnt, momenta."""
    _, images, sizes, momenta, _ = point()
    if rule == "momentum of each step":
        check_by_differences(lambda *learnt: outer(rule, *learnt, remat=remat), (images, sizes, momenta))
    else:
        check_by_differences(lambda *learnt: outer(rule, *learnt, momenta, remat=remat), (images, sizes))


def test_one_momentum_for_all_steps_may_be_learnt():
    _, images, sizes, _, _ = point()

    def loss(kept):
        after = unroll(MODEL.apply, point()[0], batches(images), momentum(sizes, kept))
        return batch_loss(MODEL.apply)(after, point()[-1])

    check_by_differences(loss, (jnp.float64(0.8),))


def test_betas_of_adam_may_be_learnt():
    _, images, sizes, _, _ = point()

    def loss(b1, b2):
        after = unroll(MODEL.apply, point()[0], batches(images), adam(sizes, b1, b2, 1e-6))
        return batch_loss(MODEL.apply)(after, point()[-1])

    check_by_differences(loss, (jnp.float64(0.8), jnp.float64(0.95)))


def test_what_adam_never_touches_has_no_derivative_and_no_nan():
    """The second parameter has no gradient at all: the root of its second moment is the root of zero."""

    def apply(params, images):
        return images.reshape(len(images), -1) @ params["used"]

    def loss(sizes):
        params = {"used": jnp.ones((9, 3)), "unused": jnp.ones(2)}
        after = unroll(apply, params, batches(point()[1]), adam(sizes))
        return jnp.square(after["used"]).sum() + jnp.square(after["unused"]).sum()

    assert jnp.isfinite(jax.jit(jax.grad(loss))(point()[2])).all()


def test_momentum_equals_the_reversal_that_is_written_by_hand():
    """Reverse-mode differentiation of gradient descent with momentum, which runs the training backwards.

    v_{t+1} = mu_t v_t + g(theta_t), theta_{t+1} = theta_t - eta_t v_{t+1}. Backwards the states are taken back too, in
    place of being kept: theta_t = theta_{t+1} + eta_t v_{t+1}, v_t = (v_{t+1} - g(theta_t)) / mu_t.
    Source: Maclaurin et al. 2015, algorithm 2, with the momentum of PyTorch.
    """
    params, images, sizes, momenta, real = point()
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def gradient(theta, x, t):
        return jax.grad(lambda theta: batch_loss(MODEL.apply)(unflatten(theta), Batch(x, LABELS[t])))(theta)

    @jax.jit
    def backwards(theta, x, t, adjoint):
        return jax.vjp(lambda theta, x: gradient(theta, x, t), theta, x)[1](adjoint)

    theta, velocity = flat, jnp.zeros_like(flat)
    for t in range(T):
        velocity = momenta[t] * velocity + gradient(theta, images[t % 2], t % 2)
        theta = theta - sizes[t] * velocity
    adjoint = jax.grad(lambda theta: batch_loss(MODEL.apply)(unflatten(theta), real))(theta)
    of_velocity, by_image = jnp.zeros_like(flat), np.zeros_like(images)
    by_size, by_momentum = np.zeros(T), np.zeros(T)
    for t in reversed(range(T)):
        by_size[t] = -adjoint @ velocity
        of_velocity = of_velocity - sizes[t] * adjoint
        theta = theta + sizes[t] * velocity
        velocity = (velocity - gradient(theta, images[t % 2], t % 2)) / momenta[t]
        by_momentum[t] = of_velocity @ velocity
        of_theta, of_image = backwards(theta, images[t % 2], t % 2, of_velocity)
        adjoint, by_image[t % 2] = adjoint + of_theta, by_image[t % 2] + np.asarray(of_image)
        of_velocity = momenta[t] * of_velocity
    np.testing.assert_allclose(theta, flat, rtol=1e-9, err_msg="back where it began")
    found = jax.jit(jax.grad(lambda *learnt: outer("momentum of each step", *learnt), (0, 1, 2)))(
        images, sizes, momenta
    )
    for one, other in zip(found, (by_image, by_size, by_momentum), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)

    @jax.jit
    @jax.grad
    def in_single(learnt, params, real):
        images, sizes, momenta = learnt
        after = unroll(MODEL.apply, params, batches(images), momentum(sizes, momenta))
        return batch_loss(MODEL.apply)(after, real)

    single = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        ((images, sizes, momenta), params, real),
    )
    for one, other in zip(in_single(*single), (by_image, by_size, by_momentum), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("remat", ["none", "steps", "nested"])
def test_batches_that_are_made_in_the_step_are_the_same_batches(remat):
    """Of images that are closed over, and changed with a key of the step: value and hypergradient."""
    params, images, sizes, _, real = point()
    keys = jax.random.split(jax.random.key(1), T)

    def changed(t, key, images):
        return Batch(images[t % 2] + 0.1 * jax.random.normal(key, images.shape[1:]), LABELS[t % 2])

    def beforehand(images, sizes):
        steps = jax.vmap(lambda t, key: changed(t, key, images))(jnp.arange(T), keys)
        return batch_loss(MODEL.apply)(unroll(MODEL.apply, params, steps, gradient_descent(sizes)), real)

    def within(images, sizes):
        options = {"batch_of": lambda step: changed(*step, images), "remat": remat}
        steps = jnp.arange(T), keys
        return batch_loss(MODEL.apply)(unroll(MODEL.apply, params, steps, gradient_descent(sizes), **options), real)

    one, other = (jax.jit(jax.value_and_grad(f, (0, 1)))(images, sizes) for f in (beforehand, within))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), one, other)


@pytest.mark.parametrize("rule", ["descent", "momentum of each step"])
def test_intermediate_losses_are_those_of_shorter_runs(rule):
    """After steps 2, 4 and 6, each with its hypergradient."""
    params, images, sizes, momenta, real = point()

    def losses(images, sizes):
        every_two = IntermediateLoss(lambda theta: batch_loss(MODEL.apply)(theta, real), 2)
        return unroll_with_losses(MODEL.apply, params, batches(images), RULES[rule](sizes, momenta), every_two)

    def shorter(count, images, sizes):
        first = jax.tree.map(lambda leaf: leaf[:count], (batches(images), sizes, momenta))
        theta = unroll(MODEL.apply, params, first[0], RULES[rule](*first[1:]))
        return theta, batch_loss(MODEL.apply)(theta, real)

    theta, found = jax.jit(losses)(images, sizes)
    jacobian = jax.jit(jax.jacrev(lambda *learnt: losses(*learnt)[1], (0, 1)))(images, sizes)
    for i, count in enumerate((2, 4, 6)):
        expected = jax.jit(functools.partial(shorter, count))(images, sizes)
        np.testing.assert_allclose(found[i], expected[1], rtol=1e-12)
        mine = jax.jit(jax.grad(lambda *learnt, n=count: shorter(n, *learnt)[1], (0, 1)))(images, sizes)
        for a, b in zip(jacobian, mine, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-13)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), theta, expected[0])


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("rule", ["descent", "momentum of each step", "adam"])
def test_a_window_is_a_run_from_where_the_steps_before_it_have_come(rule, traced):
    """Steps 0 and 1 are taken and not differentiated, 2 to 4 are, and 5 is not taken."""
    params, images, sizes, momenta, real = point()
    made = RULES[rule]

    def windowed(images, sizes, momenta, first):
        window = Window(first if traced else 2, 3)
        after = unroll(MODEL.apply, params, jnp.arange(T), made(sizes, momenta), window=window,
                       batch_of=lambda t: Batch(images[t % 2], LABELS[t % 2]))  # fmt: skip
        return batch_loss(MODEL.apply)(after, real)

    def by_hand(images, sizes, momenta, still):
        """The same steps one after another; those before the window with arrays that are not differentiated."""
        rule = made(sizes, momenta)
        fixed = made(still[1], still[2])
        theta, memory = params, rule.init(params)
        for t in range(5):
            source, mine = (still[0], fixed) if t < 2 else (images, rule)
            now = jax.tree.map(lambda leaf, t=t: leaf[t], mine.per_step)
            gradient = jax.grad(batch_loss(MODEL.apply))(theta, Batch(source[t % 2], LABELS[t % 2]))
            theta, memory = mine.update(gradient, memory, theta, now)
        return batch_loss(MODEL.apply)(theta, real)

    learnt = images, sizes, momenta
    found = jax.jit(jax.value_and_grad(windowed, (0, 1, 2)))(*learnt, jnp.int32(2))
    expected = jax.jit(jax.value_and_grad(by_hand, (0, 1, 2)))(*learnt, learnt)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13), found, expected)
    assert not np.asarray(found[1][1])[[0, 1, 5]].any()


def test_what_does_not_fit_is_refused():
    params, images, sizes, _, _ = point()
    rule = gradient_descent(sizes)
    for window in (Window(0, T + 1), Window(4, 3), Window(-1, 2), Window(0, -1)):
        with pytest.raises(OptionError, match=f"within the {T} steps"):
            unroll(MODEL.apply, params, batches(images), rule, window=window)
    for every in (0, 4):
        with pytest.raises(OptionError, match=f"every so many steps, which must divide the {T} steps, but is {every}"):
            unroll_with_losses(
                MODEL.apply, params, batches(images), rule, IntermediateLoss(lambda _: jnp.float32(0), every)
            )
