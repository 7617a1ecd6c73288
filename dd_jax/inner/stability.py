"""How fast gradient descent may go: the empirical neural tangent kernel of a network, by its largest eigenvalue."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner.losses import Apply
from dd_jax.types import Params


def largest_curvature(apply: Apply, params: Params, images: jax.Array, num_iterations: int = 50) -> Float[Array, ""]:
    """The largest eigenvalue of the empirical NTK of N images and K outputs, (N K, N K), over N, by power iteration.

    It is that of the Hessian of `squared_error` in a linear network: gradient descent with momentum m is stable with
    rates below 2 (1 + m) / it. Source: Lee et al. 2019, *Wide Neural Networks ... as Linear Models*, section 2.2.
    """
    outputs, push = jax.linearize(lambda params: apply(params, images), params)
    pull = jax.linear_transpose(push, params)

    def multiply(_: jax.Array | int, vector: jax.Array) -> jax.Array:
        return push(pull(vector / jnp.linalg.norm(vector))[0])

    start = jax.random.normal(jax.random.key(0), outputs.shape, outputs.dtype)
    return jnp.linalg.norm(lax.fori_loop(0, num_iterations, multiply, start)) / len(images)
