"""A set with what the steps of a training on it are: a size and, where the rule has it, a momentum for each of them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.errors import OptionError
from dd_jax.synthetic.base import Synthetic
from dd_jax.synthetic.step_batches import inverse_softplus
from dd_jax.types import Batch, Dataset, DistilledData, Learnable, Transform


class Stepped(NamedTuple):
    """What is learnt of a set and its steps.

    Attributes:
        learnable: of the set.
        raw_step_sizes: (T,), whose softplus the step sizes are.
        raw_momenta: (T,), whose logistic function the momenta are; () where the rule has none.
    """

    learnable: Learnable
    raw_step_sizes: Float[Array, " unrolled"]
    raw_momenta: Float[Array, " unrolled"] | tuple[()]

    @property
    def step_sizes(self) -> Float[Array, " unrolled"]:
        """Eta, positive whatever the raw numbers."""
        return jax.nn.softplus(self.raw_step_sizes)

    @property
    def momenta(self) -> Float[Array, " unrolled"] | None:
        """Mu, between 0 and 1; None where there are none."""
        return None if isinstance(self.raw_momenta, tuple) else jax.nn.sigmoid(self.raw_momenta)


def stepped(
    synthetic: Synthetic, rule: str = "momentum", init_step_size: float = 0.02, init_momentum: float = 0.5
) -> Synthetic:
    """`synthetic` with a learnt size for each of its inner steps and, by the rule "momentum", a learnt momentum.

    Raises:
        OptionError: for a step size that is not positive and finite, or a momentum that isn't between 0 and 1.

    Source: Such et al. 2020, section 3.2; Maclaurin et al. 2015 (learnt per step).
    """
    if not 0 < init_step_size < float("inf"):
        raise OptionError(f"init_step_size must be positive and finite, but is {init_step_size}.")
    if not 0 < init_momentum < 1:
        raise OptionError(f"init_momentum must be above 0 and below 1, but is {init_momentum}.")
    count = synthetic.num_inner_steps
    raw_momentum = float(np.log(init_momentum / (1 - init_momentum)))

    def init(key: jax.Array, dataset: Dataset) -> Stepped:
        sizes = jnp.asarray(inverse_softplus(np.full(count, init_step_size)), jnp.float32)
        momenta = jnp.full(count, raw_momentum, jnp.float32) if rule == "momentum" else ()
        return Stepped(synthetic.init(key, dataset), sizes, momenta)

    def batch(learnable: Stepped, key: jax.Array, t: jax.Array) -> Batch:
        return synthetic.batch(learnable.learnable, key, t)

    def decode(learnable: Stepped) -> DistilledData:
        plain = synthetic.decode(learnable.learnable)
        return dataclasses.replace(plain, step_sizes=learnable.step_sizes, momenta=learnable.momenta)

    def project(learnable: Stepped, transform: Transform | None = None) -> Stepped:
        return learnable._replace(learnable=synthetic.project(learnable.learnable, transform))

    return Synthetic(init, batch, decode, project, count)
