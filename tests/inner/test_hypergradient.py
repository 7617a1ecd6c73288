"""The hypergradient is that of the unrolled loop: finite differences, closed forms, identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dd_jax import models
from dd_jax.inner import batch_loss, chunked_loss, chunks, gradient_descent, unroll
from dd_jax.inner.losses import gradient_in_chunks
from dd_jax.methods.unrolled import outer_loss
from dd_jax.synthetic import StepBatches, step_batches
from dd_jax.types import Batch, Params

STEP = 3e-7  # of the finite differences
NETWORKS = {
    "mlp": lambda: models.mlp(models.Shapes((4, 4, 1), 3), hidden=(5,)),
    "convnet": lambda: models.convnet(models.Shapes((6, 6, 1), 3), width=2, depth=1, norm="none", pooling="max"),
    "lenet": lambda: models.lenet(models.Shapes((28, 28, 1), 3)),
}
SMALL = ("mlp", "convnet")


@functools.cache
def network(name: str) -> tuple[models.Model, Params]:
    """With parameters in float32."""
    model = NETWORKS[name]()
    return model, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), jax.jit(model.init)(jax.random.key(0)))


@functools.cache
def problem(name: str, num_epochs: int, num_batches: int, remat: str, order: str = "fixed", learn_labels: bool = False):
    """A jitted outer loss with its hypergradient in float64, and a generic point."""
    model, params = network(name)
    synthetic = step_batches(3, num_batches, num_epochs, init_step_size=0.05, order=order, learn_labels=learn_labels)
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), params)
    generator = np.random.default_rng(1)
    images, labels = generator.normal(size=(32, *model.image_shape)), generator.integers(0, 3, 32)
    real = Batch(jnp.asarray(images), jnp.asarray(labels, jnp.int32))
    learnable = StepBatches(
        jnp.asarray(generator.normal(size=(num_batches, 3, *model.image_shape))),
        jnp.asarray(np.linspace(-3.0, -2.0, num_batches * num_epochs)),
        jnp.asarray(generator.normal(size=(num_batches, 3, 3))) if learn_labels else None,
    )
    objective = outer_loss(model, lambda key: params, synthetic, remat)
    return jax.jit(jax.value_and_grad(lambda learnable: objective(learnable, jax.random.key(2), real))), learnable


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("remat", ["none", "steps"])
@pytest.mark.parametrize(
    ("name", "num_batches", "num_epochs"), [("mlp", 1, 1), ("mlp", 1, 3), *((name, 10, 3) for name in SMALL)]
)
def test_equals_central_finite_differences(name, num_batches, num_epochs, remat):
    check_by_differences(*problem(name, num_epochs, num_batches, remat))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("order", ["fixed", "random"])
def test_equals_central_finite_differences_in_learnt_labels(order):
    check_by_differences(*problem("mlp", 3, 2, "steps", order, learn_labels=True))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_equals_central_finite_differences_for_lenet():
    check_by_differences(*problem("lenet", 3, 1, "steps"))


@pytest.mark.usefixtures("x64")
def test_in_random_order_too():
    """The same key draws the same order, so the loss is a function of the images as ever."""
    random, learnable = problem("mlp", 3, 10, "steps", "random")
    check_by_differences(random, learnable)
    assert abs(random(learnable)[0] - problem("mlp", 3, 10, "steps")[0](learnable)[0]) > 1e-6


def check_by_differences(loss_and_gradient, learnable):
    found = loss_and_gradient(learnable)[1]
    for field in (field for field in StepBatches._fields if getattr(learnable, field) is not None):
        # Along the gradient itself the derivative is its norm, as far from cancellation as can be; along a direction
        # with noise too, so that a gradient that is wrong in places is caught. The steps are tiny because the loss
        # jumps wherever a ReLU or a pooling of the inner loop switches.
        gradient, here = (np.asarray(getattr(point, field)) for point in (found, learnable))
        noise = np.random.default_rng(3).normal(size=gradient.shape)
        along = gradient / np.linalg.norm(gradient)
        for towards in (along, along + 0.5 * noise / np.linalg.norm(noise)):
            ahead, behind = (
                float(loss_and_gradient(learnable._replace(**{field: jnp.asarray(here + s * towards)}))[0])
                for s in (STEP, -STEP)
            )
            np.testing.assert_allclose(np.vdot(gradient, towards), (ahead - behind) / (2 * STEP), rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("remat", ["steps", "nested"])
@pytest.mark.parametrize("name", SMALL)
def test_remat_changes_nothing(name, remat):
    plain, remat = (
        loss_and_gradient(learnable)[1]
        for loss_and_gradient, learnable in (problem(name, 3, 10, choice) for choice in ("none", remat))
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
        options = {"loss": half_square, "remat": remat, "discount": discount}
        return unroll(quadratic, jnp.array([2.0]), batches, gradient_descent(eta), **options)[0]

    def products(factors):  # prod_{s >= t} factor_s
        return np.cumprod(np.append(factors, 1.0)[::-1])[::-1]

    @jax.jit
    def found(x, eta):
        return final(x, eta), jax.grad(final, (0, 1))(x, eta)

    reached, (by_image, by_step) = found(x, eta)
    survives = products(1 - np.asarray(eta))
    value = 2.0 * survives[0] + (np.asarray(eta) * survives[1:]) @ np.asarray(x)
    np.testing.assert_allclose(reached, value, rtol=1e-12)
    remembered = products(discount * (1 - np.asarray(eta)))[1:]
    np.testing.assert_allclose(by_image, np.asarray(eta) * remembered, rtol=1e-12)
    theta = [2.0]
    for x_t, eta_t in zip(np.asarray(x), np.asarray(eta), strict=True):
        theta.append((1 - eta_t) * theta[-1] + eta_t * x_t)
    by_step_size = (np.asarray(x) - np.array(theta[:-1])) * remembered
    np.testing.assert_allclose(by_step, by_step_size, rtol=1e-12)


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_no_steps_is_the_identity():
    model, params = network("mlp")
    nothing = Batch(jnp.zeros((0, 3, 4, 4, 1)), jnp.zeros((0, 3), jnp.int32))
    after = unroll(model.apply, params, nothing, gradient_descent(jnp.zeros((0,))))
    jax.tree.map(np.testing.assert_array_equal, params, after)


def test_one_step_is_gradient_descent():
    model, params = network("mlp")
    batch = Batch(normal(1, 6, 4, 4, 1), jnp.asarray(np.arange(6) % 3))

    @jax.jit
    def step_and_gradient(params, batch):
        batches = jax.tree.map(lambda leaf: leaf[None], batch)
        after = unroll(model.apply, params, batches, gradient_descent(jnp.array([0.3])))
        return after, jax.grad(batch_loss(model.apply))(params, batch)

    after, gradient = step_and_gradient(params, batch)
    expected = jax.tree.map(lambda p, g: np.asarray(p) - 0.3 * np.asarray(g), params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after, expected)


@functools.cache
def loss_and_derivative(chunk: int | str | None):
    """The loss of 24 images alone, and with its gradient, in chunks or as a whole."""
    model, params = network("mlp")
    batch = Batch(normal(1, 24, 4, 4, 1), jnp.asarray(np.arange(24) % 3))
    loss = batch_loss(model.apply) if chunk == "whole" else chunked_loss(model.apply, chunk=chunk)
    return jax.jit(lambda params, batch: (loss(params, batch), jax.value_and_grad(loss)(params, batch)))(params, batch)


@pytest.mark.parametrize("chunk", [1, 8, 24, None])
def test_chunked_loss_is_the_loss(chunk):
    (chunked, found), (whole, expected) = loss_and_derivative(chunk), loss_and_derivative("whole")
    np.testing.assert_allclose(chunked, whole, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


@pytest.mark.parametrize("chunk", [8, None])
def test_images_of_no_weight_count_for_nothing_in_chunks(chunk):
    model, params = network("mlp")
    batch, weights = Batch(normal(1, 24, 4, 4, 1), jnp.asarray(np.arange(24) % 3)), jnp.arange(24) < 17
    chunked, whole = chunked_loss(model.apply, chunk=chunk), batch_loss(model.apply)

    @jax.jit
    def both(params):
        some = jax.tree.map(lambda leaf: leaf[:17], batch)
        return jax.value_and_grad(chunked)(params, batch, weights), jax.value_and_grad(whole)(params, some)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *both(params))


def test_a_gradient_in_chunks_and_its_derivatives_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr(chunks, "_CACHED", 1)  # as if the network were wide: chunks of 8 of 24 images
    model, params = network("mlp")
    batch = Batch(normal(1, 24, 4, 4, 1), jnp.asarray(np.arange(24) % 3))
    gradients = gradient_in_chunks(model.apply), jax.grad(batch_loss(model.apply))
    assert chunks.chunk_size(model.apply, params, batch.images) == 8

    def and_derivatives(gradient):
        def length(params, images):
            return optax.tree.norm(gradient(params, Batch(images, batch.labels)))

        return gradient(params, batch), jax.grad(length, (0, 1))(params, batch.images)

    found, expected = jax.jit(lambda: [and_derivatives(gradient) for gradient in gradients])()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_vmap_over_networks_is_a_loop():
    model = NETWORKS["mlp"]()
    keys = jax.random.split(jax.random.key(0), 3)
    batches = Batch(normal(1, 5, 3, 4, 4, 1), jnp.asarray(np.tile(np.arange(3), (5, 1))))

    def train(key):
        return unroll(model.apply, model.init(key), batches, gradient_descent(jnp.full((5,), 0.1)))

    together, alone = jax.jit(jax.vmap(train))(keys), jax.jit(train)
    apart = jax.tree.map(lambda *leaves: np.stack(leaves), *(alone(key) for key in keys))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), together, apart)
