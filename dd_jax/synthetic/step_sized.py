"""A set of one batch together with the one step size that networks are trained on it with."""

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
from dd_jax.values import Number, is_traced


class StepSized(NamedTuple):
    """What is learnt of images and a step size.

    Attributes:
        learnable: of the images, and of the labels if these are learnt.
        raw_step_size: (), whose softplus the step size is.
    """

    learnable: Learnable
    raw_step_size: Float[Array, ""]

    @property
    def step_size(self) -> Float[Array, ""]:
        """Eta, positive whatever the raw number."""
        return jax.nn.softplus(self.raw_step_size)


def step_sized(synthetic: Synthetic, init_step_size: Number = 0.01) -> Synthetic:
    """`synthetic`, a set of one batch, with a step size that is learnt and stays positive.

    Raises:
        OptionError: for a set of several batches, or a step size that is not positive and finite.

    Source: Cazenavette et al. 2022, section 3.3 (one learnable step size; there it may become negative).
    """
    if synthetic.num_inner_steps != 1:
        raise OptionError(
            f"One step size is learnt for sets of one batch, but this set has {synthetic.num_inner_steps}."
        )
    if not is_traced(init_step_size) and not 0 < init_step_size < float("inf"):
        raise OptionError(f"init_step_size must be positive and finite, but is {init_step_size}.")

    def init(key: jax.Array, dataset: Dataset) -> StepSized:
        raw = jnp.asarray(inverse_softplus(np.full(1, init_step_size))[0], jnp.float32)
        return StepSized(synthetic.init(key, dataset), raw)

    def batch(learnable: StepSized, key: jax.Array, t: jax.Array) -> Batch:
        return synthetic.batch(learnable.learnable, key, t)

    def decode(learnable: StepSized) -> DistilledData:
        return dataclasses.replace(synthetic.decode(learnable.learnable), step_sizes=learnable.step_size[None])

    def project(learnable: StepSized, transform: Transform | None = None) -> StepSized:
        return learnable._replace(learnable=synthetic.project(learnable.learnable, transform))

    return Synthetic(init, batch, decode, project, 1)


def raw_rate(rate: Number, init_step_size: Number) -> jax.Array:
    """The learning rate of the raw step size that moves the step size, where it starts, as `rate` would move it alone.

    d eta / d raw = 1 - exp(-eta), which enters once in the gradient and once in the step.
    """
    return rate / jnp.square(-jnp.expm1(-jnp.asarray(init_step_size)))
