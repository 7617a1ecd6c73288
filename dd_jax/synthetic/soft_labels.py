"""Labels that are learnt with the images: a probability of every class for each image."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError
from dd_jax.synthetic.base import Synthetic
from dd_jax.types import Batch, Dataset, DistilledData, Transform


class SoftLabelled(NamedTuple):
    """What is learnt of images and their labels.

    Attributes:
        learnable: of the images.
        label_logits: (N, K), whose softmax the labels are.
    """

    learnable: Any
    label_logits: Float[Array, "set classes"]


def soft_labels(synthetic: Synthetic, num_classes: int, certainty: float = 0.9) -> Synthetic:
    """`synthetic`, a set of one batch, with learnt labels in place of its hard ones.

    Args:
        certainty: what the probability of an image's own class starts as, the others sharing the rest.

    Raises:
        OptionError: for a set of several batches, or a certainty that isn't between chance and 1.

    Source: Bohdal et al. 2020, *Flexible Dataset Distillation*; Sucholutsky & Schonlau 2021, *Soft-Label Dataset
    Distillation* (labels learnt together with images).
    """
    if synthetic.num_inner_steps != 1:
        raise OptionError(f"Labels are learnt for sets of one batch, but this set has {synthetic.num_inner_steps}.")
    certain_logits(np.zeros(0, np.int32), num_classes, certainty)  # raises what is wrong with the certainty

    def init(key: jax.Array, dataset: Dataset) -> SoftLabelled:
        learnable = synthetic.init(key, dataset)
        hard = synthetic.decode(learnable).labels[0]
        return SoftLabelled(learnable, certain_logits(hard, num_classes, certainty))

    def batch(learnable: SoftLabelled, key: jax.Array, t: jax.Array) -> Batch:
        images = synthetic.batch(learnable.learnable, key, t).images
        return Batch(images, jax.nn.softmax(learnable.label_logits))

    def decode(learnable: SoftLabelled) -> DistilledData:
        labels = jax.nn.softmax(learnable.label_logits)[None]
        return dataclasses.replace(synthetic.decode(learnable.learnable), labels=labels)

    def project(learnable: SoftLabelled, transform: Transform | None = None) -> SoftLabelled:
        return learnable._replace(learnable=synthetic.project(learnable.learnable, transform))

    return Synthetic(init, batch, decode, project, 1)


def certain_logits(
    labels: Int[Array, "*batch"] | Int[np.ndarray, "*batch"], num_classes: int, certainty: float = 0.9
) -> Float[Array, "*batch classes"]:
    """Logits by which each class has the probability `certainty` for itself, the others sharing the rest.

    Raises:
        OptionError: for a certainty that isn't between chance and 1.
    """
    if not 1 / num_classes < certainty < 1:
        raise OptionError(f"certainty must be above 1 / {num_classes} and below 1, but is {certainty}.")
    own = math.log((num_classes - 1) * certainty / (1 - certainty))
    return own * jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
