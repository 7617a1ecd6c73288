"""Sets of plain images: of arrays that a user has, and of any other set."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.data.checks import as_array
from dd_jax.data.labels import ClassNames, names_of
from dd_jax.errors import DataError
from dd_jax.parameterisation import PLAIN
from dd_jax.types import DistilledData, Protocol, Transform

_STEP_SIZE = 0.01  # of a set that has none, where something asks for it


def distilled_from_arrays(
    images: Any,
    labels: Any,
    *,
    step_sizes: Any = None,
    transform: Transform | None = None,
    class_names: ClassNames = (),
    protocol: Protocol | None = None,
) -> DistilledData:
    """A distilled set of plain images, such as one that was made elsewhere.

    Args:
        images: (N, H, W, C), or (S, B, H, W, C) for S batches in an order; floating point, in the model space of
            `transform`.
        labels: (N,) or (S, B) classes, integers from 0; or with a last axis (K,), soft labels.
        step_sizes: (T,) of the gradient steps that the set is for, T a multiple of S, or one for a single pass; None
            for a set that networks are trained on from scratch.
        transform: model space <-> pixels, as a dataset has it (`dataset.transform`); None of pixels in [0, 1].
        class_names: one for each class; may be left out.
        protocol: how the set is to be used; None for the learnt steps if there are any, and else "dc".

    Raises:
        DataError: for arrays that don't fit together.
    """
    images, labels, class_names = as_array(images, "images"), as_array(labels, "labels"), names_of(class_names)
    if images.ndim == 4:
        images, labels = images[None], labels[None]
    if images.ndim != 5:
        raise DataError(f"images should be (N, H, W, C) or (S, B, H, W, C), but are {images.shape}.")
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"images should be floating point, in model space, but are {images.dtype}. Convert bytes with "
            "dd_jax.to_model(transform, images / 255)."
        )
    classes = np.issubdtype(labels.dtype, np.integer)
    if labels.shape[:2] != images.shape[:2] or labels.ndim != (2 if classes else 3):
        raise DataError(
            f"labels should be integers {images.shape[:2]}, or soft labels {(*images.shape[:2], 'K')}, but are "
            f"{labels.dtype} {labels.shape}."
        )
    highest = int(labels.max()) + 1 if classes else labels.shape[2]
    if (classes and labels.min() < 0) or (class_names and highest > len(class_names)):
        raise DataError(
            f"labels should be from 0 to {(len(class_names) - 1 if class_names else 'the number of classes')}, "
            f"but are from {(labels.min() if classes else 0)} to {highest - 1}."
        )
    if protocol is None:
        protocol = Protocol("dc", order="random") if step_sizes is None else Protocol()
    sizes = np.asarray(_STEP_SIZE if step_sizes is None else step_sizes, np.float32)
    sizes = np.broadcast_to(sizes, (len(images),)) if sizes.ndim == 0 else sizes
    if sizes.ndim != 1 or not sizes.size or sizes.size % len(images) or not (sizes > 0).all():
        raise DataError(
            f"step_sizes should be positive, of shape (T,) with T a multiple of {len(images)}, but are {sizes}."
        )
    return DistilledData(
        {"images": jnp.asarray(images, jnp.float32)},
        jnp.asarray(labels, jnp.int32 if classes else jnp.float32),
        jnp.asarray(sizes),
        Transform("identity", {}) if transform is None else transform,
        class_names,
        protocol,
    )


def as_plain(distilled: DistilledData) -> DistilledData:
    """The same set with its images as arrays, for who has nothing that makes images of what was learnt."""
    if distilled.parameterisation == PLAIN:
        return distilled
    images, of_examples = distilled.images, distilled.parameterisation.kind.of_examples
    learnt, form = ({"images": images}, PLAIN) if of_examples is None else of_examples(images, np.asarray(images))
    return dataclasses.replace(distilled, learnt=jax.tree.map(jnp.asarray, dict(learnt)), parameterisation=form)
