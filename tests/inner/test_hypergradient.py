"""The hypergradient is that of the unrolled loop: finite differences, closed forms, identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax import models
from dd_jax.inner import batch_loss, chunked_loss, unroll
from dd_jax.methods.unrolled import outer_loss
from dd_jax.synthetic import StepBatches, step_batches
from dd_jax.types import Batch

STEP = 3e-7  # of the finite differences
NETWORKS = {
    "mlp": lambda: models.mlp(models.Shapes((4, 4, 1), 3), hidden=(5,)),
    "lenet": lambda: models.lenet(models.Shapes((28, 28, 1), 3)),
}


@functools.cache
def problem(network: str, num_epochs: int, num_steps: int, remat: str, order: str = "fixed"):
    """A jitted outer loss and its hypergradient in float64, at a generic point."""
    model = NETWORKS[network]()
    synthetic = step_batches(3, num_steps=num_steps, num_epochs=num_epochs, init_step_size=0.05, order=order)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model.init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), 3)
    real = Batch(
        jax.random.normal(keys[0], (32, *model.image_shape), jnp.float64), jax.random.randint(keys[1], (32,), 0, 3)
    )
    learnable = StepBatches(
        jax.random.normal(keys[2], (num_steps, 3, *model.image_shape), jnp.float64),
        jnp.linspace(-3.0, -2.0, num_steps * num_epochs, dtype=jnp.float64),
    )
    objective = outer_loss(model, lambda key: params, synthetic, remat)
    loss = jax.jit(lambda learnable: objective(learnable, jax.random.key(2), real))
    return loss, jax.jit(jax.grad(loss)), learnable


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("remat", ["none", "steps"])
@pytest.mark.parametrize(("num_steps", "num_epochs"), [(1, 1), (1, 3), (10, 3)])
@pytest.mark.parametrize("network", NETWORKS)
def test_equals_central_finite_differences(network, num_steps, num_epochs, remat):
    check_by_differences(*problem(network, num_epochs, num_steps, remat))


@pytest.mark.usefixtures("x64")
def test_in_random_order_too():
    """The same key draws the same order, so the loss is a function of the images as ever."""
    random = problem("mlp", 3, 4, "steps", "random")
    check_by_differences(*random)
    assert abs(random[0](random[2]) - problem("mlp", 3, 4, "steps")[0](random[2])) > 1e-6


def check_by_differences(loss, gradient_of, learnable):
    found = gradient_of(learnable)
    for field in StepBatches._fields:
        # Along the gradient itself the derivative is its norm, as far from cancellation as can be; along a direction
        # with noise too, so that a gradient that is wrong in places is caught. The steps are tiny because the loss
        # jumps wherever a ReLU or a pooling of the inner loop switches.
        gradient = getattr(found, field)
        noise = jax.random.normal(jax.random.key(3), gradient.shape, jnp.float64)
        along = gradient / jnp.linalg.norm(gradient)
        for towards in (along, along + 0.5 * noise / jnp.linalg.norm(noise)):
            ahead, behind = (
                loss(learnable._replace(**{field: getattr(learnable, field) + s * towards})) for s in (STEP, -STEP)
            )
            np.testing.assert_allclose(jnp.vdot(gradient, towards), (ahead - behind) / (2 * STEP), rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("remat", ["steps", "nested"])
@pytest.mark.parametrize("network", NETWORKS)
def test_remat_changes_nothing(network, remat):
    plain, remat = (
        problem(network, 3, 10, choice)[1](problem(network, 3, 10, choice)[2]) for choice in ("none", remat)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), plain, remat)


def quadratic(params, images):
    """A "network" whose loss below is |theta - x|^2 / 2: its gradient descent has a closed form."""
    return params - images.reshape(-1)


def half_square(residual, labels):
    return 0.5 * jnp.sum(residual**2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("discount", [1.0, 0.7])
@pytest.mark.parametrize("remat", ["none", "steps", "nested"])
def test_closed_form_on_a_quadratic(remat, discount):
    """theta_{t+1} = (1 - eta_t) theta_t + eta_t x_t, so d theta_T / d x_t = eta_t prod_{s > t} (1 - eta_s).

    Discounted, each factor of the product but not theta_T itself is multiplied by the discount.
    """
    x = jnp.arange(1.0, 5.0)
    eta = jnp.array([0.1, 0.5, 0.2, 0.3])

    def final(x, eta):
        batches = Batch(x[:, None, None, None, None], jnp.zeros((4, 1), jnp.int32))
        return unroll(quadratic, jnp.array([2.0]), batches, eta, loss=half_square, remat=remat, discount=discount)[0]

    def products(factors):  # prod_{s >= t} factor_s
        return np.cumprod(np.append(factors, 1.0)[::-1])[::-1]

    survives = products(1 - np.asarray(eta))
    value = 2.0 * survives[0] + (np.asarray(eta) * survives[1:]) @ np.asarray(x)
    np.testing.assert_allclose(final(x, eta), value, rtol=1e-12)
    remembered = products(discount * (1 - np.asarray(eta)))[1:]
    np.testing.assert_allclose(jax.grad(final)(x, eta), np.asarray(eta) * remembered, rtol=1e-12)
    theta = [2.0]
    for x_t, eta_t in zip(np.asarray(x), np.asarray(eta), strict=True):
        theta.append((1 - eta_t) * theta[-1] + eta_t * x_t)
    by_step_size = (np.asarray(x) - np.array(theta[:-1])) * remembered
    np.testing.assert_allclose(jax.grad(final, 1)(x, eta), by_step_size, rtol=1e-12)


def test_no_steps_is_the_identity():
    model = NETWORKS["mlp"]()
    params = model.init(jax.random.key(0))
    nothing = Batch(jnp.zeros((0, 3, 4, 4, 1)), jnp.zeros((0, 3), jnp.int32))
    after = unroll(model.apply, params, nothing, jnp.zeros((0,)))
    jax.tree.map(np.testing.assert_array_equal, params, after)


def test_one_step_is_gradient_descent():
    model = NETWORKS["mlp"]()
    params = model.init(jax.random.key(0))
    batch = Batch(jax.random.normal(jax.random.key(1), (6, 4, 4, 1)), jnp.arange(6) % 3)
    after = unroll(model.apply, params, jax.tree.map(lambda leaf: leaf[None], batch), jnp.array([0.3]))
    gradient = jax.grad(batch_loss(model.apply))(params, batch)
    expected = jax.tree.map(lambda p, g: p - 0.3 * g, params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after, expected)


@pytest.mark.parametrize("chunk", [1, 8, 24, None])
def test_chunked_loss_is_the_loss(chunk):
    model = NETWORKS["mlp"]()
    params = model.init(jax.random.key(0))
    batch = Batch(jax.random.normal(jax.random.key(1), (24, 4, 4, 1)), jnp.arange(24) % 3)
    chunked, whole = chunked_loss(model.apply, chunk=chunk), batch_loss(model.apply)
    np.testing.assert_allclose(chunked(params, batch), whole(params, batch), rtol=1e-6)
    found, expected = jax.value_and_grad(chunked)(params, batch), jax.value_and_grad(whole)(params, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_vmap_over_networks_is_a_loop():
    model = NETWORKS["mlp"]()
    keys = jax.random.split(jax.random.key(0), 3)
    batches = Batch(jax.random.normal(jax.random.key(1), (5, 3, 4, 4, 1)), jnp.tile(jnp.arange(3), (5, 1)))

    def train(key):
        return unroll(model.apply, model.init(key), batches, jnp.full((5,), 0.1))

    together, apart = jax.vmap(train)(keys), [train(key) for key in keys]
    apart = jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), together, apart)
