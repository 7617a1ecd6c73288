"""Weight initialisers by name: what p(theta_0) draws from.

Variances follow the papers and are not truncated (Flax's own `xavier_normal` is, PyTorch's is not).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn

from dd_jax.errors import unknown_name

Initialiser: TypeAlias = Callable[..., jax.Array]

_scaling = nn.initializers.variance_scaling

KERNELS: Mapping[str, Initialiser] = {
    "xavier": _scaling(1.0, "fan_avg", "normal"),  # Glorot & Bengio 2010, eq. 12, normal
    "xavier_uniform": _scaling(1.0, "fan_avg", "uniform"),  # Glorot & Bengio 2010, eq. 16
    "kaiming": _scaling(2.0, "fan_in", "normal"),  # He et al. 2015, eq. 10
    "kaiming_out": _scaling(2.0, "fan_out", "normal"),  # He et al. 2015, eq. 14
    "orthogonal": nn.initializers.orthogonal(),  # Saxe et al. 2014
    "default": _scaling(1.0 / 3.0, "fan_in", "uniform"),  # U(+-1/sqrt(fan_in)), PyTorch's layers
}


def kernel_initialiser(name: str) -> Initialiser:
    """The initialiser of kernels called `name`; OptionError for an unknown one."""
    if name not in KERNELS:
        raise unknown_name("initialiser", name, KERNELS)
    return KERNELS[name]


def bias_initialiser(name: str, fan_in: int) -> Initialiser:
    """Zero, except for "default": U(+-1/sqrt(fan_in)) as in PyTorch's layers."""
    if name != "default":
        return nn.initializers.zeros_init()
    bound = fan_in**-0.5

    def uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return uniform
