"""A convolution of few channels and instance normalisation, done together, are the one after the other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_convolution import derivatives, normal, reference

from dd_jax import models
from dd_jax.models import Shapes, convolution
from dd_jax.models.convolution import deferred, defers, normalised_products

EPSILON = 1e-5


def together(images, kernel, scale, bias, padding=1):
    return normalised_products(deferred(images, kernel, padding), scale, bias, EPSILON)


def one_after_the_other(images, kernel, scale, bias, padding=1):
    out = reference(images, kernel, padding, 1)
    centred = out - out.mean((1, 2), keepdims=True)
    variance = jnp.square(centred).mean((1, 2), keepdims=True)
    return centred / jnp.sqrt(variance + EPSILON) * scale[None, None, None] + bias[None, None, None]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "padding", "channels"), [((6, 5), 1, 3), ((4, 4), 3, 1), ((5, 7), 0, 2)])
def test_equals_both_with_first_and_second_derivatives(size, padding, channels):
    """In images, kernel, scale and bias; one of the images is blank, so that its variances are zero."""
    images = normal(0, 3, *size, channels).at[1].set(0.5 if padding == 0 else 0.0)
    kernel, scale, bias = normal(1, 3, 3, channels, 20), normal(2, 20), normal(3, 20)

    def of_all(form):
        def with_norm(images, given):
            return form(images, *given, padding)

        return jax.jit(functools.partial(derivatives_of_tree, with_norm))(images, (kernel, scale, bias))

    found, expected = of_all(together), of_all(one_after_the_other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)


def derivatives_of_tree(function, images, given):
    """As `derivatives`, in a pytree beside the images."""
    leaves, structure = jax.tree.flatten(given)
    sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def of_flat(images, flat):
        parts = [part.reshape(leaf.shape) for part, leaf in zip(jnp.split(flat, sizes), leaves, strict=True)]
        return function(images, jax.tree.unflatten(structure, parts))

    return derivatives(of_flat, images, jnp.concatenate([leaf.ravel() for leaf in leaves]))


def test_rounding_in_float32_is_as_stated():
    """Of smooth images, and kernels that see edges: the variances are small beside what they are the difference of."""
    ramp = np.linspace(-1, 1, 32)
    smooth = np.stack([np.add.outer(a * ramp, np.sin(3 * b * ramp)) for a, b in normal(0, 24, 2)])
    images = smooth.reshape(8, 3, 32, 32).transpose(0, 2, 3, 1) + 0.1 * np.asarray(normal(1, 8, 32, 32, 3))
    kernel = np.array(normal(2, 3, 3, 3, 64))
    kernel -= kernel.mean((0, 1), keepdims=True)
    with jax.enable_x64(True):
        exact = np.asarray(
            one_after_the_other(*(jnp.asarray(a, "float64") for a in (images, kernel, np.ones(64), np.zeros(64))))
        )
    given = (jnp.asarray(a, "float32") for a in (images, kernel, np.ones(64), np.zeros(64)))
    error = np.abs(jax.jit(together)(*given) - exact)
    assert error.max() < 2e-5 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("width", "shape", "together"), [(64, (8, 8, 3), True), (32, (8, 8, 3), False), (64, (8, 8, 4), False)]
)
def test_wide_convnets_and_vggs_do_their_first_layer_so(monkeypatch, width, shape, together):
    calls = []
    monkeypatch.setattr(
        "dd_jax.models.layers.normalised_products", lambda *given: calls.append(1) or normalised_products(*given)
    )
    for model in (
        models.convnet(Shapes(shape, 3), width=width, depth=2),
        models.vgg11(Shapes((32, 32, shape[2]), 3), width=width),
    ):
        jax.eval_shape(model.init, jax.random.key(0))
        assert bool(calls) == together
        calls.clear()


def test_it_is_for_plain_steps_in_one_layout_and_not_for_half_precision():
    kernel = jnp.zeros((3, 3, 3, 128))
    assert defers(kernel, 1, "NHWC")
    assert not defers(kernel, 2, "NHWC")
    assert not defers(kernel, 1, "CHWN")
    assert not defers(jnp.zeros((5, 5, 3, 128)), 1, "NHWC")
    assert not defers(kernel.astype("bfloat16"), 1, "NHWC")


@pytest.mark.usefixtures("x64")
def test_networks_say_the_same_whichever_way(monkeypatch):
    model = models.convnet(Shapes((8, 8, 3), 5), width=64, depth=2)
    params, images = model.init(jax.random.key(0)), normal(1, 4, 8, 8, 3)
    found = jax.jit(model.apply)(params, images)
    monkeypatch.setattr("dd_jax.models.layers.defers", lambda *_: False)
    monkeypatch.setattr(convolution, "normalised_products", None)
    np.testing.assert_allclose(jax.jit(lambda p, x: model.apply(p, x))(params, images), found, rtol=1e-9, atol=1e-12)
