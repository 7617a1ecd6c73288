"""The gradient of what training ends in, as if each step's parameters did not depend on the steps before it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner.losses import Apply, Loss, batch_loss, cross_entropy
from dd_jax.types import Batch, Learnable, Params


def first_order_value_and_gradient(
    apply: Apply,
    params: Params,
    num_inner_steps: int,
    batch_of: Callable[[Learnable, jax.Array], Batch],
    step_size_of: Callable[[Learnable], jax.Array],
    distance: Callable[[Params], jax.Array],
    loss: Loss = cross_entropy,
) -> Callable[[Learnable], tuple[Float[Array, ""], Learnable]]:
    """Learnable x -> D(theta_T) and an approximation of its gradient whose memory does not depend on T.

    theta_{t+1} = theta_t - eta g_t(theta_t; x), and the gradient is that of D(theta_0 - eta sum_t g_t(theta_t; x)) with
    every theta_t held constant: how later parameters depend on x through earlier ones is left out. It is not the
    gradient of D. A first pass finds theta_T and v = grad D(theta_T); a second one goes through the same steps and adds
    up the gradients of -eta v . g_t(theta_t; x), each as the derivative of the loss along v.

    Args:
        batch_of: (learnable, t) -> the batch of step t.
        step_size_of: learnable -> eta, of all steps.

    Source: Cui et al. 2023, *Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory* (TESLA), section 3.2
    and the released code.
    """
    loss_of = batch_loss(apply, loss)
    steps = jnp.arange(num_inner_steps)

    def value_and_gradient(learnable: Learnable) -> tuple[jax.Array, Learnable]:
        size = step_size_of(learnable)

        def descend(theta: Params, t: jax.Array) -> Params:
            gradient = jax.grad(loss_of)(theta, batch_of(learnable, t))
            return jax.tree.map(lambda p, g: p - size.astype(p.dtype) * g, theta, gradient)

        end, _ = lax.scan(lambda theta, t: (descend(theta, t), None), params, steps)
        value, direction = jax.value_and_grad(distance)(end)

        def term(learnable: Learnable, theta: Params, t: jax.Array) -> jax.Array:
            along = jax.jvp(lambda p: loss_of(p, batch_of(learnable, t)), (theta,), (direction,))[1]
            return -step_size_of(learnable) * along

        def add(carry: tuple[Params, Learnable], t: jax.Array) -> tuple[tuple[Params, Learnable], None]:
            theta, total = carry
            total = jax.tree.map(jnp.add, total, jax.grad(term)(learnable, theta, t))
            return (descend(theta, t), total), None

        zero = jax.tree.map(jnp.zeros_like, learnable)
        (_, gradient), _ = lax.scan(add, (params, zero), steps)
        return value, gradient

    return value_and_gradient
