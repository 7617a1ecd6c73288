"""The differentiable learner: losses, the unrolled inner loop, and where it starts."""

from dd_jax.inner.init import fixed_init, init_distribution, random_init
from dd_jax.inner.losses import batch_loss, chunked_loss, cross_entropy
from dd_jax.inner.memory import REMATS, Remat, choose_remat, unroll_memory
from dd_jax.inner.parallel import device_mesh, map_over, mean_over, on_each, on_one, replicate
from dd_jax.inner.unroll import unroll

__all__ = [
    "REMATS",
    "Remat",
    "batch_loss",
    "choose_remat",
    "chunked_loss",
    "cross_entropy",
    "device_mesh",
    "fixed_init",
    "init_distribution",
    "map_over",
    "mean_over",
    "on_each",
    "on_one",
    "random_init",
    "replicate",
    "unroll",
    "unroll_memory",
]
