"""Convolution and pooling are XLA's own, to rounding, with their derivatives, in both layouts."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dd_jax.models import convolution
from dd_jax.models.convolution import avg_pool, channel_axis, convolve, from_layout, local_response_norm, max_pool
from dd_jax.models.convolution import to_layout as lay

LAYOUTS = ("NHWC", "CHWN")
# (height, width), (kernel height, kernel width), padding, stride
GEOMETRIES = {
    "1x1": ((4, 5), (1, 1), 0, 1),
    "2x2 stride 2": ((6, 7), (2, 2), 0, 2),
    "3x3 same": ((5, 4), (3, 3), 1, 1),
    "3x3 stride 2, a column left over": ((7, 6), (3, 3), 1, 2),
    "4x2 padding 2": ((5, 5), (4, 2), 2, 1),
    "5x5 same": ((5, 6), (5, 5), 2, 1),
    "5x5 stride 3": ((9, 7), (5, 5), 2, 3),
    "5x5 onto one pixel": ((5, 5), (5, 5), 0, 1),
}
FORMULATIONS = {
    "convolve": convolve,
    "rows": convolution._convolve_rows,
    "patches": convolution._convolve_patches,
    "shifts": convolution._convolve_shifts,
    "native": convolution._convolve_native,
}

pytestmark = pytest.mark.usefixtures("x64")


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def reference(images, kernel, padding, stride):
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def derivatives(function, images, kernel):
    """The value, the gradient of a generic scalar of it, and that one's Hessian times a generic direction."""

    def scalar(point):
        out = function(*point)
        return jnp.vdot(jnp.tanh(out), normal(7, *out.shape))

    point = images, kernel
    towards = tuple(normal(8 + i, *leaf.shape) for i, leaf in enumerate(point))
    along = jax.grad(lambda p: sum(jnp.vdot(g, d) for g, d in zip(jax.grad(scalar)(p), towards, strict=True)))
    return function(*point), jax.grad(scalar)(point), along(point)


@functools.cache
def expected_derivatives(geometry: str):
    size, window, padding, stride = GEOMETRIES[geometry]
    images, kernel = normal(0, 2, *size, 3), normal(1, *window, 3, 4)
    function = functools.partial(reference, padding=padding, stride=stride)
    return images, kernel, jax.jit(functools.partial(derivatives, function))(images, kernel)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("formulation", "geometry"),
    [
        ("convolve", "3x3 stride 2, a column left over"),
        *((f, g) for f in ("rows", "patches", "shifts") for g in GEOMETRIES),
    ],
)
def test_equals_xla_with_first_and_second_derivatives(formulation, geometry, layout):
    _, _, padding, stride = GEOMETRIES[geometry]
    images, kernel, expected = expected_derivatives(geometry)

    def function(images, kernel):
        return from_layout(FORMULATIONS[formulation](lay(images, layout), kernel, padding, stride, layout), layout)

    found = jax.jit(functools.partial(derivatives, function))(images, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_is_the_sum_in_the_docstring(formulation, layout):
    images, kernel, padding, stride = normal(0, 2, 5, 6, 3), normal(1, 3, 2, 3, 4), 1, 2
    convolved = jax.jit(FORMULATIONS[formulation], static_argnums=(2, 3, 4))
    found = from_layout(convolved(lay(images, layout), kernel, padding, stride, layout), layout)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, 3, 4, 4))
    for i, j, a, b in itertools.product(range(3), range(4), range(3), range(2)):
        expected[:, i, j] += padded[:, i * stride + a, j * stride + b] @ np.asarray(kernel[a, b])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_over_kernels_is_a_loop(layout):
    images, kernels = normal(0, 2, 5, 5, 3), normal(1, 4, 3, 3, 3, 2)
    function = functools.partial(convolve, padding=1, layout=layout)
    together, alone = jax.jit(jax.vmap(function, (None, 0))), jax.jit(function)
    together = together(lay(images, layout), kernels)
    apart = np.stack([alone(lay(images, layout), kernel) for kernel in kernels])
    np.testing.assert_allclose(together, apart, rtol=1e-12, atol=1e-12)


def windows(images, initial, combine, window, stride, padding=0):
    pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    return lax.reduce_window(images, initial, combine, (1, window, window, 1), (1, stride, stride, 1), pads)


def value_and_gradient(size, function):
    def scalar(x):
        out = function(x)
        return jnp.vdot(out, normal(1, *out.shape)), out

    return jax.jit(jax.grad(scalar, has_aux=True))(normal(0, 2, *size, 3))


@functools.cache
def expected_maximum(size, window, stride, padding):
    return value_and_gradient(size, lambda x: windows(x, -jnp.inf, lax.max, window, stride, padding))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_max_pool_equals_reduce_window(size, window, stride, padding, layout):
    expected = expected_maximum(size, window, stride, padding)
    found = value_and_gradient(size, lambda x: from_layout(max_pool(lay(x, layout), window, stride, padding), layout))
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_avg_pool_equals_reduce_window(size, layout):
    images = normal(0, 2, *size, 3)
    found = jax.jit(lambda x: from_layout(avg_pool(lay(x, layout), 2, 2), layout))(images)
    expected = jax.jit(lambda x: windows(x, 0.0, lax.add, 2, 2) / 4)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_derivatives_of_avg_pool_are_those_of_reduce_window(size, layout):
    images, along = normal(0, 2, *size, 3), normal(1, 2, *size, 3)

    def all_of(pool):
        def loss(x):
            return jnp.sin(pool(x)).sum()

        def first(x):
            return jnp.vdot(jax.grad(loss)(x), along)

        forward = jax.jvp(jax.grad(loss), (images,), (along,))[1]
        return jax.grad(loss)(images), jax.grad(first)(images), forward

    found = jax.jit(lambda: all_of(lambda x: from_layout(avg_pool(lay(x, layout), 2, 2), layout)))()
    expected = jax.jit(lambda: all_of(lambda x: windows(x, 0.0, lax.add, 2, 2) / 4))()
    np.testing.assert_allclose(found[1], found[2], rtol=1e-10, atol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), found, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_of_equal_values_takes_the_gradient(layout):
    """A dead ReLU gives windows of zeros: the gradient is neither split nor lost, and goes where PyTorch's goes."""
    images = jnp.array([[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 2.0, 2.0]])[None, :, :, None]
    gradient = jax.jit(jax.grad(lambda x: max_pool(lay(x, layout), 2, 2).sum()))(images)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 0, 1], [0, 0, 0, 0]])


def test_padding_never_wins_a_maximum():
    images = jnp.full((1, 3, 3, 1), -5.0)
    pooled, gradient = jax.jit(lambda x: (max_pool(x, 3, 2, 1), jax.grad(lambda x: max_pool(x, 3, 2, 1).sum())(x)))(
        images
    )
    np.testing.assert_array_equal(pooled, np.full((1, 2, 2, 1), -5.0))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [4, 5])
def test_local_response_norm_is_its_formula(size, layout):
    images, alpha, beta, k, channels = normal(0, 2, 3, 2, 7), 0.3, 0.75, 1.5, 7
    before, after = {4: (2, 1), 5: (2, 2)}[size]
    x, expected = np.asarray(images), np.empty((2, 3, 2, 7))
    for c in range(channels):
        mean = sum(x[..., i] ** 2 for i in range(c - before, c + after + 1) if 0 <= i < channels) / size
        expected[..., c] = x[..., c] / (k + alpha * mean) ** beta
    norm = functools.partial(local_response_norm, size=size, alpha=alpha, beta=beta, k=k, axis=channel_axis(layout))
    found = jax.jit(norm)(lay(images, layout))
    np.testing.assert_allclose(from_layout(found, layout), expected, rtol=1e-12)


def test_layouts_are_inverse_to_each_other_and_name_their_channels():
    images = normal(0, 2, 3, 4, 5)
    for layout in LAYOUTS:
        laid = lay(images, layout)
        assert laid.shape[channel_axis(layout)] == 5
        np.testing.assert_array_equal(from_layout(laid, layout), images)
