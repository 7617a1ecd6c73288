"""The gradient of a named array bears its name; the array, and every derivative, are what they are without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax.models.named_gradient import name_gradient


def loss(x, named=True):
    x = name_gradient(jnp.sin(x), "kept") if named else jnp.sin(x)
    return jnp.sum(x**3)


def test_values_and_derivatives_of_either_mode_are_the_same():
    x, along = jnp.linspace(-1, 2, 7), jnp.linspace(2, 3, 7)
    transforms = (
        lambda f: f(x),
        lambda f: jax.grad(f)(x),
        lambda f: jax.jvp(f, (x,), (along,)),
        lambda f: jax.jvp(jax.grad(f), (x,), (along,)),
        lambda f: jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), along))(x),
        lambda f: jax.vmap(jax.grad(lambda x: f(x[None])))(x),
        lambda f: jax.linearize(f, x)[1](along),
        lambda f: jax.grad(jax.checkpoint(f))(x),
    )
    found, expected = (
        jax.jit(lambda form=form: [transform(form) for transform in transforms])()
        for form in (loss, lambda x: loss(x, False))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


@pytest.mark.parametrize("name", ["kept", "other"])
def test_a_reverse_pass_through_a_gradient_keeps_it_by_name(name):
    policy = jax.checkpoint_policies.save_only_these_names(name)
    gradient = jax.checkpoint(jax.grad(loss), policy=policy)
    pulled = jax.eval_shape(lambda x: jax.vjp(gradient, x)[1], jnp.zeros(7))
    assert len(jax.tree.leaves(pulled)) == (2 if name == "kept" else 1)
