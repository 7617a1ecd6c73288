"""Gradients that lead to flat places of the loss: SAM, and GSAM, which also closes the gap to the loss around."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dd_jax.types import Params
from dd_jax.values import Number, is_zero

_EPS = 1e-12


def flat_gradient(loss: Callable[..., jax.Array], rho: Number, alpha: Number = 0.0) -> Callable[..., Params]:
    """The function (params, ...) -> g' - alpha (g - its projection on g'), for what `loss` takes.

    g is the gradient where the parameters are, g' that at params + rho g / |g|, where the loss around them is largest
    to first order. It costs two gradients.

    Args:
        rho: radius, in the global norm of the parameters.
        alpha: 0 for SAM; above it GSAM, which also goes against the part of g that is orthogonal to g'.

    Source: Foret et al. 2021, *Sharpness-Aware Minimization*, algorithm 1 (SAM); Zhuang et al. 2022, *Surrogate Gap
    Minimization Improves Sharpness-Aware Training*, algorithm 1 (GSAM); for experts: Du et al. 2023, *Minimizing the
    Accumulated Trajectory Error* (FTD).
    """
    gradient = jax.grad(loss)

    def flat(params: Params, *given: Any) -> Params:
        here = gradient(params, *given)
        length = rho / (optax.global_norm(here) + _EPS)
        there = gradient(jax.tree.map(lambda p, g: p + (length * g).astype(p.dtype), params, here), *given)
        if is_zero(alpha):
            return there
        along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, here, there)))
        share = along / (jnp.square(optax.global_norm(there)) + _EPS)
        return jax.tree.map(lambda g, worst: worst - alpha * (g - share * worst), here, there)

    return flat
