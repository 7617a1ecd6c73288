"""Convolution by few multiplications equals the plain one, with its derivatives; it is chosen for wide networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_convolution import derivatives, normal, reference

from dd_jax.models import convolution
from dd_jax.models.winograd import convolve_winograd

# (height, width), padding, taps: whole tiles and parts of them, one tile, ConvNet's padding of 28 pixels to 32
GEOMETRIES = {
    "whole tiles": ((8, 4), 1, 3),
    "parts": ((5, 6), 1, 3),
    "one": ((3, 3), 0, 3),
    "wide padding": ((6, 3), 3, 3),
    "five taps": ((8, 4), 2, 5),
    "parts of five": ((6, 5), 2, 5),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_xla_with_first_and_second_derivatives(geometry):
    size, padding, taps = GEOMETRIES[geometry]
    images, kernel = normal(0, 2, *size, 3), normal(1, taps, taps, 3, 4)
    both = (
        functools.partial(form, padding=padding)
        for form in (convolve_winograd, lambda x, k, padding: reference(x, k, padding, 1))
    )
    found, expected = (jax.jit(functools.partial(derivatives, form))(images, kernel) for form in both)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)


@pytest.mark.usefixtures("x64")
def test_forward_mode_is_reverse_mode():
    point, direction = ((normal(s, 2, 5, 4, 3), normal(s + 1, 3, 3, 3, 4)) for s in (0, 2))
    function = functools.partial(convolve_winograd, padding=1)
    out, along = jax.jit(lambda p, d: jax.jvp(function, p, d))(point, direction)
    cotangent = normal(9, *out.shape)
    pulled = jax.jit(lambda p, c: jax.vjp(function, *p)[1](c))(point, cotangent)
    assert jnp.vdot(along, cotangent) == pytest.approx(sum(map(float, map(jnp.vdot, pulled, direction))), rel=1e-12)


@pytest.mark.parametrize(("taps", "bound"), [(3, 5e-6), (5, 2e-5)])
def test_rounding_in_float32_is_as_stated(taps, bound):
    images, kernel = normal(0, 8, 16, 16, 128), normal(1, taps, taps, 128, 8)
    with jax.enable_x64(True):
        exact = np.asarray(reference(jnp.asarray(images, "float64"), jnp.asarray(kernel, "float64"), taps // 2, 1))
    given = jnp.asarray(images, "float32"), jnp.asarray(kernel, "float32")
    error = np.abs(jax.jit(convolve_winograd, static_argnums=2)(*given, taps // 2) - exact)
    assert error.max() < bound * np.abs(exact).max()


def test_it_is_chosen_for_wide_networks_alone():
    def chosen(size, kernel, channels, padding=1, stride=1, layout="NHWC"):
        images, kernel = np.empty((1, size, size, channels)), np.empty((kernel, kernel, channels, channels))
        return convolution._formulation(images, kernel, padding, stride, layout) is convolution._convolve_winograd

    assert chosen(16, 3, 128)
    assert chosen(3, 3, 64)
    assert chosen(16, 5, 64, 2)
    for other in ((2, 3, 128), (16, 3, 32), (16, 7, 128), (16, 3, 128, 1, 2), (16, 3, 128, 1, 1, "CHWN")):
        assert not chosen(*other)
