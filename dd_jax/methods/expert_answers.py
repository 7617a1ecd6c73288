"""What experts at their end say of images: which real ones to start from, and what learnt labels start as (DATM)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.data.telling import listed, tell
from dd_jax.inner.losses import Apply
from dd_jax.models import Model
from dd_jax.synthetic import Counts, class_counts
from dd_jax.types import Batch, Dataset, Experts, Params

_CHUNK = 256


def known_images(model: Model, experts: Experts, dataset: Dataset, per_class: Counts) -> Dataset:
    """The dataset with the training images alone that the first expert is right about at its end.

    Host code. Classes of which it knows fewer than `per_class` keep all their images, which is told.
    Source: Guo et al. 2024, *Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching* (DATM),
    section 3.4 and the released code ("samples predicted correctly").
    """
    images, labels = dataset.train.images, np.asarray(dataset.train.labels)
    right = np.asarray(_answers(model, experts, 0, images).argmax(-1)) == labels
    known = np.bincount(labels[right], minlength=dataset.num_classes)
    wanted = class_counts(per_class, dataset.num_classes)
    short = np.flatnonzero(known < wanted)
    if short.size:
        names = listed([dataset.class_names[c] for c in short])
        tell(
            f"The expert is right about fewer than {wanted.max()} images of {names}. Those classes "
            "start from any of their images."
        )
    rows = np.flatnonzero(right | np.isin(labels, short))
    return dataclasses.replace(dataset, train=Batch(images[rows], dataset.train.labels[rows]))


def expert_logits(
    model: Model, experts: Experts, images: Float[Array, "set height width channels"], labels: Int[Array, " set"]
) -> Float[Array, "set classes"]:
    """Logits of images: for each the mean over those experts that are right about it at their end, or over all.

    Source: as `known_images`, section 3.3.
    """
    each = jnp.stack([_answers(model, experts, i, images) for i in range(len(experts.accuracies))])
    right = each.argmax(-1) == labels[None]
    counted = jnp.where(right.any(0, keepdims=True), right, True)[..., None]
    return (each * counted).sum(0) / counted.sum(0)


def _answers(model: Model, experts: Experts, number: int, images: jax.Array) -> jax.Array:
    """Logits of images by one expert at its end."""
    params = jax.tree.map(lambda leaf: leaf[0], experts.read(number, [len(experts.epochs) - 1]))
    return _logits(model.apply, params, images)


@functools.partial(jax.jit, static_argnums=0)
def _logits(apply: Apply, params: Params, images: jax.Array) -> jax.Array:
    return lax.map(lambda image: apply(params, image[None])[0], images, batch_size=_CHUNK)
