"""The differentiable learner: gradient descent on distilled batches as one `lax.scan`."""

import functools

import jax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner.losses import Apply, Loss, batch_loss, cross_entropy
from dd_jax.inner.memory import Remat, segments
from dd_jax.types import Batch, Params
from dd_jax.values import Number, is_traced


def unroll(
    apply: Apply,
    params: Params,
    batches: Batch,
    step_sizes: Float[Array, " steps"],
    *,
    loss: Loss = cross_entropy,
    remat: Remat = "steps",
    discount: Number = 1.0,
) -> Params:
    """Parameters after T steps of gradient descent, theta_{t+1} = theta_t - eta_t grad l(theta_t; x_t, y_t).

    params: theta_0, any pytree; batches: leaves with a leading axis T; step_sizes: eta, (T,). T = 0 is the identity.
    remat: what is kept for the reverse pass; the same result to the last bit is not promised. "none": everything that
        it reads. "steps": the parameters of each step, the rest being computed again (six to eight times less memory
        for LeNet at about the same time). "nested": of sqrt(T) steps only, with one more computation of the others.
    discount: in the reverse pass multiply the adjoint of the parameters by this at every step. 1 gives the exact
        hypergradient; below 1 a biased one in which step T - k counts discount^k times: where a long unroll is
        chaotic the exact one is nearly all noise, and this is what can be followed. Values are not affected.
    Differentiable to any order in `params`, `batches` and `step_sizes`.
    Source: Wang et al. 2018, Algorithm 1, lines 5-7 and equation 4.
    """
    gradient = jax.grad(batch_loss(apply, loss))

    def descend(theta: Params, step: tuple[Batch, jax.Array]) -> tuple[Params, None]:
        batch, step_size = step
        if is_traced(discount) or discount != 1.0:
            theta = jax.tree.map(lambda p: discount * p + (1.0 - discount) * lax.stop_gradient(p), theta)
        return jax.tree.map(lambda p, g: p - step_size.astype(p.dtype) * g, theta, gradient(theta, batch)), None

    steps = (batches, step_sizes)
    if remat == "none":
        return lax.scan(descend, params, steps)[0]
    # Inside a scan nothing can be merged across steps, so the barriers that prevent it would only cost time.
    body = jax.checkpoint(descend, prevent_cse=False)
    if remat == "steps":
        return lax.scan(body, params, steps)[0]

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def segment(theta: Params, steps: tuple[Batch, jax.Array]) -> tuple[Params, None]:
        return lax.scan(body, theta, steps)[0], None

    count, length = segments(step_sizes.shape[0])
    whole = count * length
    params, _ = lax.scan(segment, params, jax.tree.map(lambda x: x[:whole].reshape(count, length, *x.shape[1:]), steps))
    return segment(params, jax.tree.map(lambda x: x[whole:], steps))[0]
