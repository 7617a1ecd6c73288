"""Chunks are as small as a wide network needs them, and change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.inner.chunks import apply_in_chunks, chunk_size, largest_array
from dd_jax.models import Shapes


def test_a_chunk_has_fewer_images_of_a_wide_network():
    sizes = {}
    for width in (16, 128):
        model = dd.models.convnet(Shapes((28, 28, 1), 10), width=width)
        params = jax.eval_shape(model.init, jax.random.key(0))
        sizes[width] = chunk_size(model.apply, params, jnp.empty((256, 28, 28, 1)))
    assert sizes == {16: 16, 128: 8}
    of_wide = {n: chunk_size(model.apply, params, jnp.empty((n, 28, 28, 1))) for n in (5, 40, 250, 251)}
    assert of_wide == {5: 5, 40: 8, 250: 10, 251: 251}  # the next larger divisor, if it is not far, else all


def test_the_largest_array_is_found_inside_of_loops_and_calls():
    def apply(scale, images):
        return jax.lax.map(lambda x: jax.jit(lambda y: jnp.outer(y, y).sum() * scale)(x), images)

    assert largest_array(apply, jnp.float32(1), jnp.empty((5, 7))) == 49


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_features_are_the_same_in_chunks(norm, monkeypatch):
    monkeypatch.setattr("dd_jax.inner.chunks._CACHED", 1)
    model = dd.models.convnet(Shapes((8, 8, 1), 3), width=4, depth=1, norm=norm)
    params, images = jax.jit(model.init)(jax.random.key(0)), jax.random.normal(jax.random.key(1), (24, 8, 8, 1))
    found = jax.jit(lambda params: apply_in_chunks(model.features, params, images))(params)
    np.testing.assert_allclose(found, jax.jit(model.features)(params, images), atol=1e-5)
