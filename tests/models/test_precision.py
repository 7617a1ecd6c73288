"""Precisions: float32 is in full, the others are what they say, and parameters stay float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.models import Shapes, with_precision


@pytest.fixture(scope="module")
def case():
    model = dd.models.mlp(Shapes((8, 8, 1), 10), hidden=(32,))
    images = jnp.asarray(np.random.default_rng(1).normal(size=(16, 8, 8, 1)), jnp.float32)
    return model, jax.jit(model.init)(jax.random.key(0)), images


def products(model, params, images):
    """The precisions of all matrix products in the network and its gradient."""
    jaxpr = jax.make_jaxpr(jax.grad(lambda p: model.apply(p, images).sum()))(params)
    return [(e.params["precision"], e.invars[0].aval.dtype) for e in jaxpr.eqns if e.primitive.name == "dot_general"]


def test_float32_asks_for_all_its_bits(case):
    for precision, dtype in products(*case):
        assert precision == (jax.lax.Precision.HIGHEST,) * 2
        assert dtype == jnp.float32


def test_tf32_is_asked_for_in_gradients_too(case):
    model, params, images = case
    found = products(with_precision(model, "tf32"), params, images)
    assert len(found) >= 3
    assert {precision for precision, _ in found} == {(jax.lax.Precision.HIGH,) * 2}


def test_bf16_computes_in_bfloat16_and_gives_float32(case):
    model, params, images = case
    half = with_precision(model, "bf16")
    assert {dtype for _, dtype in products(half, params, images)} == {jnp.dtype(jnp.bfloat16)}
    gradient, out = jax.jit(
        lambda params: (jax.grad(lambda p: half.apply(p, images).sum())(params), half.apply(params, images))
    )(params)
    assert out.dtype == jnp.float32
    full = np.asarray(jax.jit(model.apply)(params, images))
    assert 1e-5 < float(np.abs(np.asarray(out) - full).max()) < 0.1
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}


def test_a_network_says_its_precision_and_can_change_it_back(case):
    model, params, images = case
    half = with_precision(model, "bf16")
    assert half.settings["precision"] == "bf16"
    back = with_precision(half, "float32")
    assert back.settings == model.settings
    np.testing.assert_array_equal(*(jax.jit(network.apply)(params, images) for network in (back, model)))


@pytest.mark.slow
def test_distilling_in_bf16_learns(digits, digits_mlp):
    method = dd.methods.unrolled(with_precision(digits_mlp, "bf16"), num_batches=1, num_epochs=3, init_step_size=1.0)
    run = dd.distill(method, digits, num_outer_steps=60, eval_every=60, num_eval_nets=5, show_progress=False)
    first, *_, last = [row["validation"] for row in run.history if "validation" in row]
    assert last > first


def test_unknown_precisions_and_foreign_networks(case):
    with pytest.raises(dd.OptionError, match="bf16"):
        with_precision(case[0], "bf61")
    with pytest.raises(dd.OptionError, match="because this library didn't make it"):
        with_precision(case[0]._replace(apply=lambda params, images: images), "bf16")
