"""The differentiable learner: gradient descent on distilled batches as one `lax.scan`."""

import jax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner.losses import Apply, Loss, batch_loss, cross_entropy
from dd_jax.types import Batch, Params


def unroll(
    apply: Apply,
    params: Params,
    batches: Batch,
    step_sizes: Float[Array, " steps"],
    *,
    loss: Loss = cross_entropy,
    remat: bool = True,
    discount: float = 1.0,
) -> Params:
    """Parameters after T steps of gradient descent, theta_{t+1} = theta_t - eta_t grad l(theta_t; x_t, y_t).

    params: theta_0, any pytree; batches: leaves with a leading axis T; step_sizes: eta, (T,). T = 0 is the identity.
    remat: keep only the parameters of each step for the reverse pass and compute the rest again (six to eight
        times less memory for LeNet at about the same time); the same result to the last bit is not promised.
    discount: in the reverse pass multiply the adjoint of the parameters by this at every step. 1 gives the exact
        hypergradient; below 1 a biased one in which step T - k counts discount^k times: where a long unroll is
        chaotic the exact one is nearly all noise, and this is what can be followed. Values are not affected.
    Differentiable to any order in `params`, `batches` and `step_sizes`.
    Source: Wang et al. 2018, Algorithm 1, lines 5-7 and equation 4.
    """
    gradient = jax.grad(batch_loss(apply, loss))

    def descend(theta: Params, step: tuple[Batch, jax.Array]) -> tuple[Params, None]:
        batch, step_size = step
        if discount != 1.0:
            theta = jax.tree.map(lambda p: discount * p + (1.0 - discount) * lax.stop_gradient(p), theta)
        return jax.tree.map(lambda p, g: p - step_size.astype(p.dtype) * g, theta, gradient(theta, batch)), None

    # Inside a scan nothing can be merged across steps, so the barriers that prevent it would only cost time.
    body = jax.checkpoint(descend, prevent_cse=False) if remat else descend
    return lax.scan(body, params, (batches, step_sizes))[0]
