"""The differentiable learner: losses, the unrolled inner loop, and where it starts."""

from dd_jax.inner.init import fixed_init, init_distribution, random_init
from dd_jax.inner.losses import batch_loss, chunked_loss, cross_entropy
from dd_jax.inner.unroll import unroll

__all__ = [
    "batch_loss",
    "chunked_loss",
    "cross_entropy",
    "fixed_init",
    "init_distribution",
    "random_init",
    "unroll",
]
