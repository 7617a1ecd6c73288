"""Distances of gradients: formulas by hand, which axis is a unit, and nothing that isn't finite at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dd_jax import models
from dd_jax.errors import OptionError
from dd_jax.inner.distances import DISTANCES, cosine, distance_named, unit_cosine

COMPILED = {name: jax.jit(distance) for name, distance in DISTANCES.items()}
SHAPES = {"conv": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "dense": {"kernel": (5, 3), "bias": (3,)}}


def gradients(seed: int, dtype=jnp.float32):
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(generator.normal(size=shape), dtype), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
    )


def by_hand(name, first, second):
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (first, second)]
    if name == "mse":
        return ((flat[0] - flat[1]) ** 2).sum()
    if name == "l1":
        return abs(flat[0] - flat[1]).sum()
    if name == "cosine":
        return 1 - flat[0] @ flat[1] / np.sqrt((flat[0] @ flat[0]) * (flat[1] @ flat[1]))
    total = 0.0
    for layer in ("conv", "dense"):
        a, b = (np.asarray(tree[layer]["kernel"]) for tree in (first, second))
        for unit in range(a.shape[-1]):
            u, v = a[..., unit].ravel(), b[..., unit].ravel()
            total += 1 - u @ v / np.sqrt((u @ u) * (v @ v))
    return total


@pytest.mark.parametrize("name", DISTANCES)
def test_formulas(name):
    first, second = gradients(0), gradients(1)
    np.testing.assert_allclose(COMPILED[name](first, second), by_hand(name, first, second), rtol=1e-5)
    np.testing.assert_allclose(COMPILED[name](first, first), 0, atol=1e-5)


def test_units_are_scale_free_and_biases_do_not_count():
    first, second = gradients(0), gradients(1)
    scales = {"conv": jnp.array([[[[1.0, 5.0, 0.2, 3.0]]]]), "dense": jnp.array([[2.0, 0.5, 7.0]])}
    scaled = {
        layer: {"kernel": leaves["kernel"] * scales[layer], "bias": leaves["bias"] + 9.0}
        for layer, leaves in second.items()
    }
    by_unit, whole = (jax.jit(distance) for distance in (unit_cosine, cosine))
    np.testing.assert_allclose(by_unit(first, scaled), by_unit(first, second), rtol=1e-5)
    assert abs(whole(first, scaled) - whole(first, second)) > 1e-2


def test_a_network_has_as_many_units_as_outputs_of_its_layers():
    """Against the opposite gradient every unit counts 2."""
    model = models.convnet(models.Shapes((8, 8, 1), 3), width=4, depth=2)
    params = jax.jit(model.init)(jax.random.key(0))
    to_opposite = jax.jit(lambda params: unit_cosine(params, jax.tree.map(jnp.negative, params)))
    np.testing.assert_allclose(to_opposite(params), 2 * (4 + 4 + 3), rtol=1e-4)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_of_distances(name):
    first, second = gradients(0, jnp.float64), gradients(1, jnp.float64)

    @jax.jit
    def distance(g):
        return DISTANCES[name](first, jax.tree.map(jnp.asarray, g))

    check_grads(distance, (second,), order=2 if name != "l1" else 1, modes=["rev"])


@pytest.mark.parametrize("name", DISTANCES)
def test_zero_gradients_give_finite_values_and_derivatives(name):
    first = gradients(0)
    zero = jax.tree.map(jnp.zeros_like, first)
    derived = jax.jit(jax.value_and_grad(DISTANCES[name], argnums=1))
    for a, b in [(first, zero), (zero, first), (zero, zero)]:
        value, derivative = derived(a, b)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(derivative))


def test_unknown_distance():
    with pytest.raises(OptionError, match="Did you mean 'unit_cosine'"):
        distance_named("unit_cosin")
